/**
 * What a command prints on standard output: for people, or as JSON with `--json`. Nothing else goes there.
 */

import { once } from 'node:events';
import { isOutputTaken, printText } from './standard-output.ts';

export class Output {
  readonly json: boolean;
  readonly #write: (text: string) => void;

  constructor(json: boolean, write: (text: string) => void = printText) {
    this.json = json;
    this.#write = write;
  }

  /** Prints `value` as JSON, or what `draw` makes of it. */
  print(value: unknown, draw: () => string): void {
    this.#write(this.json ? `${JSON.stringify(value, undefined, 2)}\n` : draw());
  }

  /** Waits for a slow reader of a long list; false if it went away, or nothing more fits: the rest is for nobody. */
  async drained(): Promise<boolean> {
    if (!process.stdout.writableNeedDrain) return isOutputTaken();
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
