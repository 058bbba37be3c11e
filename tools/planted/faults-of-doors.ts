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
    text: 'if (error !== undefined || this.#isClosed) {\n      this.#writer.drop(buffer);',
    replacement: 'if (this.#isClosed) {\n      this.#writer.drop(buffer);',
    tests: [TRANSMISSION],
  },
  {
    name: 'a client of an export that is deleted stays connected',
    file: 'src/nbd/transmission.ts',
    text: "this.#device.attach(() => this.#drop('the export was deleted or rolled back'));",
    replacement: 'this.#device.attach(() => undefined);',
    tests: [inNbd('revoked')],
  },
  {
    name: 'what somebody works on is deleted without --force',
    file: 'src/volume/version-removal.ts',
    text: 'if (!force) this.#checkDetached(versions);',
    replacement: '',
    tests: [inServer('store-door')],
  },
  {
    name: 'who works on what is deleted is not told',
    file: 'src/volume/version-device.ts',
    text: 'this.#onRevoked?.();',
    replacement: '',
    tests: [inServer('store-door')],
  },
  {
    name: 'a client that is about to hang up gets no time for it',
    file: 'src/volume/version-removal.ts',
    text: 'await this.#disks.detached(find(), force ? 0 : DETACH_MS_MAX);',
    replacement: 'await this.#disks.detached(find(), 0);',
    tests: [inServer('store-door')],
  },
  {
    name: 'an NBD client does not count as attached',
    file: 'src/nbd/transmission.ts',
    text: "this.#device.attach(() => this.#drop('the export was deleted or rolled back'));",
    replacement: '',
    tests: [inNbd('revoked')],
  },
  {
    name: 'whoever asks about an export counts as attached',
    file: 'src/nbd/handshake.ts',
    text: 'const device = openExport(exports, query.name);',
    replacement:
      'const device = openExport(exports, query.name);\n    if (this.#option === nbd.NBD_OPT_INFO) device.attach(() => undefined);',
    tests: [inNbd('revoked')],
  },
  {
    name: 'what is not in rows yet counts as unchanged since a snapshot',
    file: 'src/volume/changed-runs.ts',
    text: 'await this.#nextInOverlays(this.#to, this.#ownOfTo, at, end),',
    replacement: '',
    tests: ['test/volume/block-status.test.ts'],
  },
  {
    name: 'holes that a read named before it had to wait stay in its reply',
    file: 'src/nbd/transmission.ts',
    text: 'return this.finishRead(request, undefined);\n      holes?.clear();',
    replacement: 'return this.finishRead(request, undefined);',
    tests: [inNbd('conformance/reads')],
  },
  {
    name: 'a snapshot that a client counts changes from is deleted under it',
    file: 'src/nbd/transmission.ts',
    text: "agreement.contexts.attach(() => this.#drop('a snapshot that changes are counted from was deleted'));",
    replacement: '',
    tests: [inNbd('revoked')],
  },
  {
    name: 'requests through the control socket do not count as attached',
    file: 'src/server/store-door.ts',
    text: 'device.attach(() => undefined); // every request finds out by itself',
    replacement: '',
    tests: [inServer('version-doors')],
  },
  {
    name: 'a change is reported before it is on the disk',
    file: 'src/cli/command-context.ts',
    text: 'if (sync) await door.flush();',
    replacement: '',
    tests: [inCli('changes')],
  },
  {
    name: 'a change is reported although it did not get to the disk',
    file: 'src/cli/command-context.ts',
    text: 'await work(door, new Output(output.json, (text) => said.push(text)));',
    replacement: 'await work(door, output);',
    tests: [inCli('changes')],
  },
  {
    name: 'a flush of the store through the control socket is none',
    file: 'src/server/version-routes.ts',
    text: 'await door.flush();',
    replacement: '',
    tests: [inServer('doors')],
  },
  {
    name: 'a hold is answered before it is on the disk',
    file: 'src/volume/store.ts',
    text: 'await this.#changes.hold(name, options);\n    await this.flush();',
    replacement: 'await this.#changes.hold(name, options);',
    tests: [inServer('store-door')],
  },
  {
    name: 'a request after a rename gets the disk that had the name before',
    file: 'src/server/version-routes.ts',
    text: 'return await endingLeases(() => door.rename(request.body.name, request.body.to));',
    replacement: 'return await door.rename(request.body.name, request.body.to);',
    tests: [inServer('ending-leases')],
  },
  {
    name: 'a disk that a failed change took back is kept for the next request',
    file: 'src/server/version-routes.ts',
    text: `    try {
      return await change();
    } finally {
      leases.end();
    }`,
    replacement: `    const result = await change();
    leases.end();
    return result;`,
    tests: [inServer('ending-leases')],
  },
  {
    name: 'a pause between two requests keeps a volume from being deleted',
    file: 'src/server/version-routes.ts',
    text: 'leases.end(); // a pause between two requests is no use of a disk',
    replacement: '',
    tests: [inServer('ending-leases')],
  },
  {
    name: 'a lease that was ended while in use is kept for ever',
    file: 'src/server/disk-leases.ts',
    text: 'if (this.#closed || this.#leases.get(name) !== lease) this.#end(name, lease);',
    replacement: 'if (this.#closed) this.#end(name, lease);',
    tests: [inServer('ending-leases')],
  },
  {
    name: 'what is no number is taken for zero by the control server',
    file: 'src/server/control-server.ts',
    text: 'coerceTypes: false',
    replacement: 'coerceTypes: true',
    tests: [inServer('version-doors'), inServer('control-server')],
  },
  {
    name: 'a stream that was cut short is taken for a whole one',
    file: 'src/server/control-client.ts',
    text: "throw new StoreError('IO', cutShort);",
    replacement: '',
    tests: [inServer('control-server')],
  },
  {
    name: 'a day that there is not is another one',
    file: 'src/cli/removal-commands.ts',
    text: 'day === undefined || !isDay(day) ? Number.NaN',
    replacement: 'day === undefined ? Number.NaN',
    tests: [inCli('changes')],
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
