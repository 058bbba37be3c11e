/**
 * qemu-io as a client that is fed over standard input: random changes of a disk, a few at a time, each noted in the
 * disk's model when it is sent and when its answer is printed.
 *
 * Invariant: it gets one line for each prompt. Of two lines that it reads at once it sees the second only when there is
 * a third to read.
 */

import type { DiskModel } from './disk-model.ts';
import { Program } from './programs.ts';
import type { Random } from './random.ts';

const REQUESTS_IN_FLIGHT_MAX = 4;
const PROMPT = 'qemu-io> ';
const ANSWER = /(?:wrote|discard|read) (\d+)\/(\d+) bytes at offset (\d+)/g;
const FAILURE = /Pattern verification failed.*|bytes at offset \d+, but only.*/;

export interface QemuIoClientOptions {
  uri: string;
  random: Random;
  model: DiskModel;
  sizeBytes: number;
}

export class QemuIoClient {
  /** Changes that were answered. */
  answered = 0;
  readonly program: Program;
  readonly #options: QemuIoClientOptions;
  /** By offset. */
  readonly #sent = new Map<number, { end: number; done: () => void }>();
  #rest = '';
  #isPrompting = false;
  #isStopped = false;

  /** Starts changing the disk as soon as it has opened it. */
  constructor(options: QemuIoClientOptions) {
    this.#options = options;
    // By itself it keeps an answer that it prints between two commands until the next one.
    this.program = new Program('stdbuf', ['-oL', 'qemu-io', '-d', 'unmap', '-f', 'raw', options.uri]);
    this.program.onOutput = (text) => this.#read(text);
  }

  /** Whatever it printed that no client may see from a server that works, or that dies. */
  get failure(): string | undefined {
    return FAILURE.exec(this.program.output)?.[0];
  }

  /** Sends nothing more. What was sent may still be answered. */
  stop(): void {
    this.#isStopped = true;
  }

  #read(text: string): void {
    // An answer may follow a prompt on its line, and a prompt an answer.
    const pieces = (this.#rest + text).split(PROMPT);
    if (pieces.length > 1) this.#isPrompting = true;
    const lines = pieces.join('').split('\n');
    this.#rest = lines.pop()!;
    for (const [, done, whole, offset] of lines.join('\n').matchAll(ANSWER)) {
      this.#answer(Number(offset), Number(done), Number(whole));
    }
    if (this.#isPrompting && !this.#isStopped && this.#sent.size < REQUESTS_IN_FLIGHT_MAX) {
      this.#isPrompting = false;
      this.program.send(`${this.#command()}\n`);
    }
  }

  #answer(offset: number, doneBytes: number, bytes: number): void {
    const request = this.#sent.get(offset);
    if (doneBytes !== bytes || request?.end !== offset + bytes) {
      throw new Error(`qemu-io was not asked for this: ${doneBytes} of ${bytes} bytes at ${offset}`);
    }
    this.#sent.delete(offset);
    request.done();
  }

  #command(): string {
    const { random, model } = this.#options;
    if (random.chance(4)) return 'flush';
    const { start, length } = this.#place();
    const end = start + length;
    const value = random.chance(20) ? model.uniform(start, end) : undefined;
    if (value !== undefined) {
      const stretch = { start, end };
      model.beginRead(stretch);
      this.#sent.set(start, { end, done: () => model.endRead(stretch) });
      return `aio_read -P ${value} ${start} ${length}`;
    }
    const kind = random.pick(['write', 'write', 'write', 'write', 'zero', 'discard']);
    const change = { start, end, value: kind === 'write' ? random.between(1, 255) : 0 };
    model.begin(change);
    const done = (): void => {
      model.answer(change);
      this.answered++;
    };
    this.#sent.set(start, { end, done });
    if (kind === 'discard') return `discard ${start} ${length}`;
    const forced = random.chance(10) ? '-f ' : '';
    const what = kind === 'write' ? `-P ${change.value}` : random.pick(['-z', '-z -u']);
    return `aio_write ${forced}${what} ${start} ${length}`;
  }

  /** A stretch that no client is changing or reading. */
  #place(): { start: number; length: number } {
    const { random, model, sizeBytes } = this.#options;
    for (;;) {
      const length = random.pick([1, 511, 512, 4096, 4097, 16_384, 65_536, random.between(1, 200_000)]);
      const at = random.below(sizeBytes - length + 1);
      const start = random.chance(50) ? at - (at % 4096) : at;
      if (model.isFree(start, start + length)) return { start, length };
    }
  }
}
