/** A store that the built `coppice` has made, of several segments, and copies of it to be damaged. */

import fs from 'node:fs';
import path from 'node:path';
import { temporaryDirectory } from '../server/served.ts';
import { ok } from './command.ts';

const CHUNK = 4096;

export class WholeStore {
  /** Of the store and its copies; gone at the end. */
  readonly directory = temporaryDirectory();
  readonly whole = path.join(this.directory, 'whole');
  /** What the disk holds. */
  readonly image = path.join(this.directory, 'disk.raw');
  #copies = 0;

  async make(): Promise<void> {
    const image = Buffer.alloc(3 << 20);
    for (let at = 0; at < image.length; at += CHUNK) image.fill(`chunk ${at / CHUNK} `, at, at + CHUNK);
    fs.writeFileSync(this.image, image);
    await ok(this.whole, ['init', '--segment-size', '1M']);
    await ok(this.whole, ['import', 'disk', this.image]);
    await ok(this.whole, ['snapshot', 'disk@monday']);
    await ok(this.whole, ['clone', 'disk@monday', 'copy']);
  }

  copy(): string {
    const to = path.join(this.directory, `copy-${++this.#copies}`);
    fs.cpSync(this.whole, to, { recursive: true });
    return to;
  }

  remove(): void {
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}
