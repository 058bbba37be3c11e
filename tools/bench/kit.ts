// What loads need beside servers, made once when it is first asked for: an image, logs of requests, a machine.

import { randomFillSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { writeLog } from './fio.ts';
import { GuestKit } from './guest-kit.ts';
import type { FioWork, Load, Places } from './loads.ts';
import { isReplayed, replayLog, sweepLog } from './replay-log.ts';
import { type Sizes, type Stage, volumeBytesOf } from './stages.ts';

// More than any server here answers: a replayed log must outlast the runtime.
const REPLAYED_REQUESTS_PER_SECOND = 150_000;
const PIECE_BYTES = 2 ** 20;

export class Kit {
  readonly directory: string;
  readonly #sizes: Sizes;
  #guests: GuestKit | undefined;

  constructor(directory: string, sizes: Sizes) {
    this.directory = directory;
    this.#sizes = sizes;
  }

  /** A file of random bytes. */
  async image(): Promise<string> {
    const file = path.join(this.directory, 'image.raw');
    if (existsSync(file)) return file;
    const handle = await open(file, 'w');
    try {
      const piece = Buffer.alloc(PIECE_BYTES);
      for (let at = 0; at < this.#sizes.imageBytes; at += PIECE_BYTES)
        await handle.write(randomFillSync(piece));
      await handle.sync();
    } finally {
      await handle.close();
    }
    return file;
  }

  guests(): GuestKit {
    this.#guests ??= new GuestKit(this.directory);
    return this.#guests;
  }

  /** The log of a load that is replayed, the same for all peers of a round. */
  async replayLog(
    load: Load & { work: FioWork },
    stage: Stage,
    seconds: number,
    seed: number,
  ): Promise<string> {
    if (!isReplayed(load.work)) return '';
    const requests = REPLAYED_REQUESTS_PER_SECOND * seconds;
    const volumeBytes = volumeBytesOf(stage, this.#sizes);
    return await this.#log(`${load.name}-${seed}`, () => replayLog(load.work, volumeBytes, requests, seed));
  }

  /** A log that goes once over a volume. */
  async sweep(action: 'read' | 'write', places: Places, stage: Stage, bytes: number): Promise<string> {
    const volumeBytes = volumeBytesOf(stage, this.#sizes);
    return await this.#log(`sweep-${action}`, () => sweepLog(action, places, volumeBytes, bytes));
  }

  async #log(name: string, pieces: () => Iterable<string>): Promise<string> {
    const file = path.join(this.directory, `${name}.iolog`);
    if (!existsSync(file)) await writeLog(file, pieces());
    return file;
  }
}
