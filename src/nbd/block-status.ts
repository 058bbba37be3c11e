/**
 * The contexts of one connection, and what they say of a range.
 *
 * Invariant: the snapshots that changes are counted from are attached for as long as the connection lasts, so that
 * nobody deletes them under a client without being told.
 */

import { assert } from '../base/errors.ts';
import type { AllocationRun, BlockDevice, StatusRun } from '../volume/device.ts';
import type { ExportSource } from './export-source.ts';
import * as nbd from './protocol.ts';
import type { StatusCommand } from './requests.ts';
import type { ContextKind, ContextName } from './status-contexts.ts';

/** Extents that one context says of a request. */
const RUNS_MAX = 2048;
/** What they take, as objects and as a reply. */
export const STATUS_BYTES = 128 << 10;
/** Before the numbers of contexts in a payload stands the length of the range. */
const PAYLOAD_HEAD_BYTES = 8;
const TWO_32 = 2 ** 32;

/** A context that was selected. */
interface Context {
  readonly id: number;
  readonly kind: ContextKind;
  readonly since: BlockDevice | undefined;
}

/** Which contexts a client asks, and of how much. */
export interface StatusQuestion {
  readonly lengthBytes: number;
  readonly ids: readonly number[];
}

export class BlockStatus {
  readonly #contexts: readonly Context[];

  private constructor(contexts: readonly Context[]) {
    this.#contexts = contexts;
  }

  static readonly none = new BlockStatus([]);

  /** Opens what the contexts need. @throws NOT_FOUND, and whatever opening an export throws */
  static open(names: readonly ContextName[], exports: ExportSource): BlockStatus {
    const contexts: Context[] = [];
    try {
      names.forEach(({ kind, since }, i) => {
        contexts.push({ id: i + 1, kind, since: since === '' ? undefined : exports.open(since) });
      });
    } catch (error) {
      for (const { since } of contexts) since?.release();
      throw error;
    }
    return new BlockStatus(contexts);
  }

  get count(): number {
    return this.#contexts.length;
  }

  /** The payload of a question is at most this long. */
  get payloadBytesMax(): number {
    return PAYLOAD_HEAD_BYTES + 4 * this.count;
  }

  attach(revoked: () => void): void {
    for (const { since } of this.#contexts) since?.attach(revoked);
  }

  release(): void {
    for (const { since } of this.#contexts) since?.release();
  }

  /** A question without a payload. */
  ofAll(lengthBytes: number): StatusQuestion {
    return { lengthBytes, ids: this.#contexts.map(({ id }) => id) };
  }

  /** The question in a payload; undefined if it names a context twice, or one that was not selected, or none. */
  decode(payload: readonly Buffer[], payloadBytes: number): StatusQuestion | undefined {
    if (payloadBytes <= PAYLOAD_HEAD_BYTES || payloadBytes % 4 !== 0) return undefined;
    const bytes = Buffer.alloc(payloadBytes);
    let filled = 0;
    for (const slice of payload) filled += slice.copy(bytes, filled);
    const ids = new Set<number>();
    for (let at = PAYLOAD_HEAD_BYTES; at < payloadBytes; at += 4) {
      const id = bytes.readUInt32BE(at);
      if (ids.has(id) || id < 1 || id > this.count) return undefined;
      ids.add(id);
    }
    return { lengthBytes: bytes.readUInt32BE(0) * TWO_32 + bytes.readUInt32BE(4), ids: [...ids] };
  }

  /** Asks the contexts, and leaves what they say in `command`. @throws what the device throws */
  async answer(
    command: StatusCommand,
    device: BlockDevice,
    ids: readonly number[],
    one: boolean,
  ): Promise<void> {
    const { offset, lengthBytes } = command;
    for (const id of ids) {
      const context = this.#contexts[id - 1]!;
      const runs = await ask(context, device, offset, lengthBytes, one ? 1 : RUNS_MAX);
      assert(runs.length > 0 && runs.length <= RUNS_MAX, 'a device describes at least one extent');
      command.answers.push({ context: id, runs });
    }
  }
}

async function ask(
  { kind, since }: Context,
  device: BlockDevice,
  offset: number,
  lengthBytes: number,
  runsMax: number,
): Promise<readonly StatusRun[]> {
  switch (kind) {
    case 'allocation':
      return (await device.allocation(offset, lengthBytes, runsMax)).map(allocationStatus);
    case 'depth':
      return await device.depth(offset, lengthBytes, runsMax);
    case 'changes':
      return await device.changes(since!, offset, lengthBytes, runsMax);
    case 'bitmap':
      return asBitmap(await device.changes(since!, offset, lengthBytes, runsMax));
  }
}

function allocationStatus({ lengthBytes, allocated }: AllocationRun): StatusRun {
  return { lengthBytes, status: allocated ? 0 : nbd.NBD_STATE_HOLE | nbd.NBD_STATE_ZERO };
}

/** Only whether it differs; runs that become alike are one. */
function asBitmap(changes: readonly StatusRun[]): StatusRun[] {
  const runs: StatusRun[] = [];
  for (const { lengthBytes, status } of changes) {
    const dirty = status & nbd.NBD_STATE_DIRTY;
    const last = runs.at(-1);
    if (last?.status === dirty) last.lengthBytes += lengthBytes;
    else runs.push({ lengthBytes, status: dirty });
  }
  return runs;
}
