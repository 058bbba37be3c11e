/**
 * How far a long command has come: one line on standard error, redrawn in place, and only on a terminal.
 */

import { formatSize } from './size.ts';

const REDRAW_MS = 200;
const CLEAR_LINE = '\r\x1b[K';

export class Progress {
  readonly #what: string;
  /** What is counted, if not bytes. */
  readonly #unit: string | undefined;
  readonly #totalBytes: number | undefined;
  readonly #terminal: NodeJS.WriteStream | undefined;
  readonly #startedAt = performance.now();
  #doneBytes = 0;
  #drawnAt = 0;

  constructor(
    what: string,
    totalBytes: number | undefined,
    stream: NodeJS.WriteStream = process.stderr,
    unit?: string,
  ) {
    this.#what = what;
    this.#unit = unit;
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
    const part = Math.floor((100 * this.#doneBytes) / Math.max(this.#totalBytes ?? 1, 1));
    if (this.#unit !== undefined)
      return `${this.#what}: ${this.#doneBytes} of ${this.#totalBytes} ${this.#unit} (${part} %)`;
    const bytesPerSecond = this.#doneBytes / Math.max((now - this.#startedAt) / 1000, 0.001);
    const speed = `${formatSize(Math.round(bytesPerSecond))}/s`;
    if (this.#totalBytes === undefined) return `${this.#what}: ${formatSize(this.#doneBytes)}, ${speed}`;
    const total = formatSize(this.#totalBytes);
    const secondsLeft = Math.ceil(
      Math.max(this.#totalBytes - this.#doneBytes, 0) / Math.max(bytesPerSecond, 1),
    );
    const left = `${Math.floor(secondsLeft / 60)}:${String(secondsLeft % 60).padStart(2, '0')} left`;
    return `${this.#what}: ${formatSize(this.#doneBytes)} of ${total} (${part} %), ${speed}, ${left}`;
  }
}
