/** Planted bugs of volumes: writes, partial writes, zeros, snapshots, pages, reads, the checker. */

import { type Fault, inBase, inLog, inVolume } from './fault.ts';

const DISK = inVolume('disk');
const OVERLAPPING = inVolume('overlapping-writes');
const MODEL = inVolume('model');
const RECOVERY = inVolume('recovery');
const CHECK = inVolume('check');

export const VOLUME_FAULTS: readonly Fault[] = [
  {
    name: 'a partial write does not wait for the lock of its chunks',
    file: 'src/volume/chunk-locks.ts',
    text: 'await this.whenFree(first, count, () => this.#held.add(range));',
    replacement: 'this.#held.add(range);',
    tests: [DISK, OVERLAPPING, MODEL],
  },
  {
    name: 'a partial write holds only the first of its chunks',
    file: 'src/volume/chunk-locks.ts',
    text: 'const range: Held = { first, count, queue: [], gone: 0 };',
    replacement: 'const range: Held = { first, count: 1, queue: [], gone: 0 };',
    tests: [OVERLAPPING, MODEL],
  },
  {
    name: 'whole writes do not wait for the lock of a partial one',
    file: 'src/volume/disk.ts',
    text: 'if (this.#locks.isFree(first, count)) {',
    replacement: 'if (count > 0) {',
    tests: [DISK, OVERLAPPING, MODEL],
  },
  {
    name: 'a whole write that has waited for a lock is submitted a step later',
    file: 'src/volume/chunk-locks.ts',
    text: 'try {\n          work();',
    replacement: 'try {\n          void Promise.resolve().then(work);',
    tests: [inVolume('chunk-locks'), OVERLAPPING, DISK, MODEL],
  },
  {
    name: 'zeroes do not wait for the lock of a partial write',
    file: 'src/volume/disk.ts',
    text: `await this.#locks.whenFree(first, count, () => {
        this.#log.submit(Append.zeros(owner, this, first, count));
      });`,
    replacement: 'this.#log.submit(Append.zeros(owner, this, first, count));',
    tests: [DISK, OVERLAPPING, MODEL],
  },
  {
    name: 'a partial write reads its chunk before earlier writes are in the map',
    file: 'src/volume/disk.ts',
    text: 'await this.#log.settled();\n',
    replacement: '',
    tests: [DISK, MODEL],
  },
  {
    name: 'a partial write takes zeros for a chunk that it cannot read',
    file: 'src/volume/disk.ts',
    text: 'if (wanted > 0) await this.#reader.readChunks(bytes, 0, chunk, 1);',
    replacement: 'if (wanted > 0) await this.#reader.readChunks(bytes, 0, chunk, 1).catch(() => undefined);',
    tests: [DISK],
  },
  {
    name: 'the page of a region keeps the pointer of before a write',
    file: 'src/volume/disk.ts',
    text: 'page?.block.put(chunk % REGION_CHUNKS, segment, offset + i * CHUNK_BYTES, checksums[i]!, sequence);',
    replacement: '',
    tests: [DISK, MODEL],
  },
  {
    name: 'the page of a region keeps its pointers when all of it is zeroed',
    file: 'src/volume/disk.ts',
    text: 'fillHoles(page.block, sequence);',
    replacement: '',
    tests: [DISK, MODEL],
  },
  {
    name: 'FUA is ignored by a write of whole chunks',
    file: 'src/volume/chunk-write.ts',
    text: 'if (this.#error !== undefined || !request.forceUnitAccess) request.complete(this.#error);',
    replacement: 'if (this.#error !== undefined || this.#pending === 0) request.complete(this.#error);',
    tests: [DISK, RECOVERY],
  },
  {
    name: 'FUA is ignored by a partial write',
    file: 'src/volume/disk.ts',
    text: `});
    if (request.forceUnitAccess) await this.#log.flush();`,
    replacement: '});',
    tests: [DISK, RECOVERY],
  },
  {
    name: 'FUA is ignored by an empty write',
    file: 'src/volume/disk.ts',
    text: `if (lengthBytes === 0) {
      if (request.forceUnitAccess) await this.#log.flush();`,
    replacement: 'if (lengthBytes === 0) {',
    tests: [DISK, RECOVERY],
  },
  {
    name: 'FUA is ignored by zeroes and trims',
    file: 'src/volume/disk.ts',
    text: `await allOf(parts);
    if (forceUnitAccess) await this.#log.flush();`,
    replacement: 'await allOf(parts);',
    tests: [DISK, RECOVERY],
  },
  {
    name: 'a flush of a device is none',
    file: 'src/volume/disk.ts',
    text: `flush(): Promise<void> {
    return this.#log.flush();`,
    replacement: `async flush(): Promise<void> {
    return undefined;`,
    tests: [DISK, RECOVERY],
  },
  {
    name: 'a write of many entries is answered with the first',
    file: 'src/volume/chunk-write.ts',
    text: 'if (this.#pending > 0) return;\n    this.#disk.writeEnded();',
    replacement: 'if (this.#pending !== 0 && this.#pending !== 1) return;\n    this.#disk.writeEnded();',
    tests: [DISK, MODEL],
  },
  {
    name: 'the checksum is not verified when a read is served from memory',
    file: 'src/volume/disk-reader.ts',
    text: 'if (crc32c(target.subarray(from, from + CHUNK_BYTES)) !== block.checksum(index + i)) return false;',
    replacement: 'if (from < 0) return false;',
    tests: [DISK, CHECK],
  },
  {
    name: 'the checksum is not verified when a read waits for the disk',
    file: 'src/volume/disk-reader.ts',
    text: 'if (crc32c(target.subarray(from, from + CHUNK_BYTES)) === checksums[i]) continue;',
    replacement: 'if (from >= 0) continue;',
    tests: [DISK, CHECK],
  },
  {
    name: 'the checksum is not verified when a chunk is read a second time',
    file: 'src/volume/disk-reader.ts',
    text: 'if (crc32c(target.subarray(to, to + CHUNK_BYTES)) === checksum) return;',
    replacement: 'if (checksum >= 0) return;',
    tests: [DISK, CHECK],
  },
  {
    name: 'the bytes of a damaged chunk are left where the reader can see them',
    file: 'src/volume/disk-reader.ts',
    text: `target.fill(0, to, to + CHUNK_BYTES);
    const where =`,
    replacement: 'const where =',
    tests: [DISK],
  },
  {
    name: 'a snapshot takes effect when it is on the disk, not in the step in which it is written',
    file: 'src/volume/change-writer.ts',
    text: `const owner = new AppendPromise((append) => this.#apply(change, append.sequence));
    this.#log.submit(Append.change(owner, text));
    await owner.promise;`,
    replacement: `const owner = new AppendPromise();
    this.#log.submit(Append.change(owner, text));
    const append = await owner.promise;
    await this.#log.flush();
    this.#apply(change, append.sequence);`,
    tests: [DISK, MODEL],
  },
  {
    name: 'a head that froze is still written',
    file: 'src/volume/disk.ts',
    text: `this.path.add(label);
    this.label = label;`,
    replacement: 'this.path.add(label);',
    tests: [DISK, MODEL],
  },
  {
    name: 'a disk is forgotten while a write to it is under way',
    file: 'src/volume/open-disks.ts',
    text: 'open.disk.whenIdle(() => {',
    replacement: '((now: () => void) => now())(() => {',
    tests: [DISK, MODEL],
  },
  {
    name: 'the directory of a new store is not synced in its parent',
    file: 'src/volume/init-store.ts',
    text: "await new NodeStorage(path.dirname(path.resolve(directory))).syncDirectory('.');",
    replacement: '',
    tests: [inVolume('init')],
  },
  {
    name: 'the directory of a new store is not synced itself',
    file: 'src/volume/init-store.ts',
    text: "await storage.syncDirectory('.');",
    replacement: '',
    tests: [inVolume('init')],
  },
  {
    name: 'a store that was closed keeps its last writes in memory',
    file: 'src/volume/store.ts',
    text: 'await log.close();',
    replacement: '',
    tests: [RECOVERY],
  },
  {
    name: 'a poisoned store closes as if all were well',
    file: 'src/volume/store.ts',
    text: 'if (log.poison !== undefined) throw log.poison; // not all that was answered is known to be on the disk',
    replacement: '',
    tests: [DISK, RECOVERY],
  },
  {
    name: 'a request has failed while parts of it are still under way',
    file: 'src/base/all-of.ts',
    text: "for (const part of await Promise.allSettled(parts)) if (part.status === 'rejected') throw part.reason;",
    replacement: 'await Promise.all(parts);',
    tests: [inBase('all-of')],
  },
  {
    name: 'a frozen store of revision 1 reads other numbers',
    file: 'src/log/entries.ts',
    text: 'label: input.u32(), first: input.u48(), count: input.u48() });',
    replacement: 'label: input.u32(), count: input.u48(), first: input.u48() });',
    tests: [inLog('format')],
  },
  {
    name: 'an entry is told against one of another table',
    file: 'src/log/record-packer.ts',
    text: 'this.#coder.reset();',
    replacement: '',
    tests: [inLog('chunk-log')],
  },
  {
    name: 'a check in use reads the superblock while it is being written',
    file: 'src/volume/store.ts',
    text: 'checkSuperblock(this.#environment.storage, (read) => numbers.between(read))',
    replacement: 'checkSuperblock(this.#environment.storage)',
    tests: [inVolume('check-log')],
  },
  {
    name: 'a scrub reads the superblock while it is being written',
    file: 'src/volume/scrub.ts',
    text: 'checkSuperblock(storage, (read) => numbers.between(read))',
    replacement: 'checkSuperblock(storage)',
    tests: [inVolume('check-log')],
  },
];
