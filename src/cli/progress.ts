/**
 * How far a long command has come: one line on standard error, redrawn in place, and only on a terminal.
 */

import { formatSize } from './size.ts';

const REDRAW_MS = 200;
const CLEAR_LINE = '\r\x1b[K';

export class Progress {
  readonly #what: string;
  readonly #totalBytes: number | undefined;
  readonly #terminal: NodeJS.WriteStream | undefined;
  readonly #startedAt = performance.now();
  #doneBytes = 0;
  #drawnAt = 0;

  constructor(what: string, totalBytes: number | undefined, stream: NodeJS.WriteStream = process.stderr) {
    this.#what = what;
    this.#totalBytes = totalBytes;
    this.#terminal = stream.isTTY ? stream : undefined;
  }

  add(bytes: number): void {
    this.#doneBytes += bytes;
    if (this.#terminal === undefined) return;
    const now = performance.now();
    if (now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#terminal.write(`${CLEAR_LINE}${this.#line(now)}`);
  }

  /** Takes the line away. */
  end(): void {
    if (this.#drawnAt > 0) this.#terminal?.write(CLEAR_LINE);
  }

  #line(now: number): string {
    const bytesPerSecond = this.#doneBytes / Math.max((now - this.#startedAt) / 1000, 0.001);
    const speed = `${formatSize(Math.round(bytesPerSecond))}/s`;
    if (this.#totalBytes === undefined) return `${this.#what}: ${formatSize(this.#doneBytes)}, ${speed}`;
    const percent = Math.floor((100 * this.#doneBytes) / Math.max(this.#totalBytes, 1));
    const total = formatSize(this.#totalBytes);
    return `${this.#what}: ${formatSize(this.#doneBytes)} of ${total} (${percent} %), ${speed}`;
  }
}
