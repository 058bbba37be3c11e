/**
 * Clients at work on the disks of a served store: on each disk several connections with requests in flight on each,
 * which write, zero, trim, flush and read; beside them snapshots, clones and checkpoints. All that was sent and
 * answered is noted in the histories, and every read is compared with them.
 *
 * Changes overlap as chance has it. Whole sectors only: of a smaller piece nobody promises that it is not torn.
 */

import { SECTOR_BYTES } from '../../src/base/units.ts';
import * as nbd from '../../src/nbd/protocol.ts';
import { pause } from '../../test/support/programs.ts';
import type { Random } from '../../test/support/random.ts';
import type { DiskHistory } from './disk-history.ts';
import { type Answer, ConnectionLost, NbdClient } from './nbd-client.ts';
import type { StoreHistory } from './store-history.ts';

const REQUESTS_IN_FLIGHT_MAX = 6;
const SECTORS_PER_CHUNK = 8;

export interface LoadOptions {
  readonly random: Random;
  readonly history: StoreHistory;
  readonly socketPath: string;
  /** Errors that clients may see now: values of the protocol. */
  readonly mayFailWith: ReadonlySet<number>;
  /** Of a hundred requests, how many are flushes. */
  readonly flushPercent: number;
}

/** One connection, and what its requests come to. */
export class Writer {
  answered = 0;
  flushed = 0;
  /** Requests that failed as they may, by the error. */
  readonly refused = new Map<number, number>();
  /** What no client may see. */
  readonly failures: string[] = [];
  /** Resolves when it has stopped, or the server is gone. */
  readonly ended: Promise<unknown>;
  readonly #options: LoadOptions;
  readonly #disk: DiskHistory;
  readonly #client: NbdClient;
  #isStopped = false;

  private constructor(options: LoadOptions, disk: DiskHistory, client: NbdClient) {
    this.#options = options;
    this.#disk = disk;
    this.#client = client;
    const lanes = Array.from({ length: options.random.between(1, REQUESTS_IN_FLIGHT_MAX) }, () =>
      this.#lane(),
    );
    this.ended = Promise.all(lanes).finally(() => client.close());
  }

  static async start(options: LoadOptions, disk: DiskHistory): Promise<Writer> {
    return new Writer(options, disk, await NbdClient.connect(options.socketPath, disk.name));
  }

  /** Sends nothing more; what was sent may still be answered. */
  stop(): void {
    this.#isStopped = true;
  }

  async #lane(): Promise<void> {
    try {
      while (!this.#isStopped) await this.#request();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) this.failures.push(String(error));
    }
  }

  async #request(): Promise<void> {
    const { random, flushPercent } = this.#options;
    const chance = random.below(100);
    if (chance < flushPercent) await this.#flush();
    else if (chance < flushPercent + 8) await this.#read();
    else await this.#change();
  }

  async #flush(): Promise<void> {
    const { history } = this.#options;
    const sentAt = history.moments.next();
    if (!this.#isDone(await this.#client.flush(), 'flush')) {
      history.failFlush();
      await pause(1);
      return;
    }
    this.#checkSync(sentAt);
    history.flushedAt(sentAt);
    this.flushed++;
  }

  async #read(): Promise<void> {
    const { moments } = this.#options.history;
    const { first, count } = this.#place();
    const from = moments.next();
    const answer = await this.#client.read(first * SECTOR_BYTES, count * SECTOR_BYTES);
    if (!this.#isDone(answer, 'read')) return;
    const wrong = this.#disk.wrong(answer.payload, { from, until: moments.next() }, first);
    if (wrong !== undefined) this.failures.push(`read while serving: ${wrong}`);
  }

  async #change(): Promise<void> {
    const { random } = this.#options;
    const { first, count } = this.#place();
    const kind = random.pick(['write', 'write', 'write', 'write', 'write', 'zero', 'trim'] as const);
    const change = this.#disk.send(first, count, { isZero: kind !== 'write', isForced: random.chance(8) });
    const [offset, length] = [first * SECTOR_BYTES, count * SECTOR_BYTES];
    const answer = await (kind === 'write'
      ? this.#client.write(offset, this.#disk.content(change), change.isForced)
      : this.#client[kind](offset, length, change.isForced));
    if (!this.#isDone(answer, 'change')) {
      await pause(1);
      return;
    }
    if (change.isForced) this.#checkSync(change.sentAt);
    this.#disk.answer(change);
    this.answered++;
  }

  /** A sync that failed leaves nothing that a later one could vouch for. */
  #checkSync(sentAt: number): void {
    if (sentAt > this.#options.history.flushFailedAt)
      this.failures.push('a flush succeeded after one that failed');
  }

  #isDone({ error }: Answer, kind: 'read' | 'flush' | 'change'): boolean {
    if (error === nbd.NBD_SUCCESS) return true;
    // Only a change needs room.
    const mayBe = error !== nbd.NBD_ENOSPC || kind === 'change';
    if (mayBe && this.#options.mayFailWith.has(error)) {
      this.refused.set(error, (this.refused.get(error) ?? 0) + 1);
    } else {
      this.failures.push(`a ${kind} failed with ${error}`);
    }
    return false;
  }

  #place(): { first: number; count: number } {
    const { random } = this.#options;
    const sectors = this.#disk.sizeBytes / SECTOR_BYTES;
    const count = random.pick([1, 1, 3, 8, 8, 8, 16, 64, random.between(1, 200)]);
    const at = random.below(sectors - count + 1);
    return { first: random.chance(60) ? at - (at % SECTORS_PER_CHUNK) : at, count };
  }
}
