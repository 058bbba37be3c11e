/**
 * What a command prints on standard output: for people, or as JSON with `--json`. Nothing else goes there.
 */

import { once } from 'node:events';

export class Output {
  readonly json: boolean;
  readonly #write: (text: string) => void;

  constructor(json: boolean, write: (text: string) => void = (text) => void process.stdout.write(text)) {
    this.json = json;
    this.#write = write;
  }

  /** Prints `value` as JSON, or what `draw` makes of it. */
  print(value: unknown, draw: () => string): void {
    this.#write(this.json ? `${JSON.stringify(value, undefined, 2)}\n` : draw());
  }

  /** Waits for a slow reader of a long list; false if it went away, and nobody wants the rest. */
  async drained(): Promise<boolean> {
    if (!process.stdout.writableNeedDrain) return true;
    return await once(process.stdout, 'drain').then(
      () => true,
      () => false,
    );
  }

  /** Prints `text` as it is. */
  raw(text: string): void {
    this.#write(text);
  }
}
