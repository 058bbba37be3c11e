/** Planted bugs of the doors and of the files below: NBD, control socket, import, export, node:fs. */

import { type Fault, inBase, inCli, inNbd, inServer } from './fault.ts';

const STORAGE = inBase('node-storage');
const TRANSMISSION = inNbd('transmission');

export const DOOR_FAULTS: readonly Fault[] = [
  {
    name: 'a sync of a file is none',
    file: 'src/base/node-storage.ts',
    text: `await fdatasync(this.#descriptor).catch((error: unknown) => {
      throw fromSystemError(error, \`syncing \${this.#path}\`);
    });`,
    replacement: 'await fstat(this.#descriptor);',
    tests: [STORAGE],
  },
  {
    name: 'a failed sync of a file is no error',
    file: 'src/base/node-storage.ts',
    text: 'throw fromSystemError(error, `syncing ${this.#path}`);',
    replacement: 'return undefined;',
    tests: [STORAGE],
  },
  {
    name: 'a sync of a directory is none',
    file: 'src/base/node-storage.ts',
    text: 'await this.#try(`syncing ${name}`, handle.sync());',
    replacement: 'await this.#try(`syncing ${name}`, handle.stat());',
    tests: [STORAGE],
  },
  {
    name: 'a short write counts as a whole one',
    file: 'src/base/node-storage.ts',
    text: 'else if (written === left) resolve();',
    replacement: 'else if (written > 0) resolve();',
    tests: [STORAGE],
  },
  {
    name: 'the rest of a short write goes where its beginning went',
    file: 'src/base/node-storage.ts',
    text: 'else step(behind(pending, written), at + written, left - written);',
    replacement: 'else step(behind(pending, written), at, left - written);',
    tests: [STORAGE],
  },
  {
    name: 'the rest of a short write to the page cache goes where its beginning went',
    file: 'src/base/node-storage.ts',
    text: 'const written = fs.writevSync(this.#descriptor, rest, position + done);',
    replacement: 'const written = fs.writevSync(this.#descriptor, rest, position);',
    tests: [STORAGE, inBase('cached-writes')],
  },
  {
    name: 'a short write to the page cache counts as a whole one',
    file: 'src/base/node-storage.ts',
    text: 'while (done < total) {',
    replacement: 'while (done < 0) {',
    tests: [STORAGE, inBase('cached-writes')],
  },
  {
    name: 'an NBD flush is answered at once',
    file: 'src/nbd/transmission.ts',
    text: 'void this.#device.flush().then(request.succeed, request.fail);',
    replacement: 'request.succeed();',
    tests: [TRANSMISSION],
  },
  {
    name: 'FUA of an NBD trim or zeroes is ignored',
    file: 'src/nbd/transmission.ts',
    text: 'void this.#device.zero(offset, lengthBytes, forceUnitAccess)',
    replacement: 'void this.#device.zero(offset, lengthBytes, forceUnitAccess && lengthBytes < 0)',
    tests: [TRANSMISSION],
  },
  {
    name: 'an NBD read that failed is answered with what is in the buffer',
    file: 'src/nbd/transmission.ts',
    text: 'if (error !== undefined || this.#isClosed) {\n      this.#replies.drop(buffer);',
    replacement: 'if (this.#isClosed) {\n      this.#replies.drop(buffer);',
    tests: [TRANSMISSION],
  },
  {
    name: 'a change through a door is answered before it is on the disk',
    file: 'src/server/store-door.ts',
    text: 'await this.#store.flush();',
    replacement: '',
    tests: [inServer('doors')],
  },
  {
    name: 'a flush through the control socket is none',
    file: 'src/server/disk-routes.ts',
    text: 'await leases.use(request.body.name, async (disk) => await disk.flush());',
    replacement: '',
    tests: [inServer('doors')],
  },
  {
    name: 'an import is not flushed',
    file: 'src/cli/import-command.ts',
    text: 'await disk.flush();',
    replacement: '',
    tests: [inCli('images')],
  },
  {
    name: 'an export goes on over a piece that cannot be read',
    file: 'src/server/store-door.ts',
    text: 'if (lengthBytes > 0) await this.#device.read(target, 0, offset, lengthBytes);',
    replacement:
      'if (lengthBytes > 0) await this.#device.read(target, 0, offset, lengthBytes).catch(() => target.fill(0));',
    tests: [inCli('images'), inServer('doors')],
  },
  {
    name: 'an exported file is not synced',
    file: 'src/cli/partial-file.ts',
    text: 'await this.#handle.sync();',
    replacement: '',
    tests: [inCli('images')],
  },
  {
    name: 'the directory of an exported file is not synced',
    file: 'src/cli/partial-file.ts',
    text: 'await directory.sync();',
    replacement: '',
    tests: [inCli('images')],
  },
];
