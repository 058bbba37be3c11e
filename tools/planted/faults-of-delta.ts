/** Planted bugs of streams: what is verified of them, what is built on what, and when a version is published. */

import { type Fault, inCli, inDelta, inVolume } from './fault.ts';

const READER = inDelta('stream-reader');
const COMPOSE = inDelta('compose');
const RECEIVES = inVolume('receives');
const HASHES = inDelta('hash-list');
const RESYNC = inCli('resync');
const REPLICAS = inVolume('replicas');
const ROLES = inVolume('roles');

export const DELTA_FAULTS: readonly Fault[] = [
  {
    name: 'bodies of a stream are read over before they are written',
    file: 'src/cli/send-command.ts',
    text: 'else await write(writer.changes(body), sent);',
    replacement: 'else { sent(); await write(writer.changes(body)); }',
    tests: ['test/cli/send-receive.test.ts'],
  },
  {
    name: 'the checksum of a frame is not compared',
    file: 'src/delta/frame-reader.ts',
    text: 'if (crc32c(this.#body) !== this.#frame!.bodyChecksum)',
    replacement: 'if (crc32c(this.#body) < 0)',
    tests: [READER],
  },
  {
    name: 'the checksum of the header of a frame is not compared',
    file: 'src/delta/format.ts',
    text: 'input.u32() !== crc32c(bytes.subarray(0, CHECKED_BYTES))',
    replacement: 'input.u32() < 0',
    tests: [READER],
  },
  {
    name: 'the digest over all that came before a frame is not compared',
    file: 'src/delta/frame-reader.ts',
    text: 'if (!this.#digest.copy().digest().equals(this.#expected))',
    replacement: 'if (this.#digest.copy().digest().length === 0)',
    tests: [READER],
  },
  {
    name: 'the number of a frame is not looked at',
    file: 'src/delta/frame-reader.ts',
    text: 'if (number !== this.#number)',
    replacement: 'if (number < 0)',
    tests: [READER],
  },
  {
    name: 'extents of a frame may lie before those of the frame before',
    file: 'src/delta/stream-reader.ts',
    text: 'if (changes.offset(0) < this.#position)',
    replacement: 'if (changes.offset(0) < 0)',
    tests: [READER],
  },
  {
    name: 'a stream that ends in the middle counts as whole',
    file: 'src/delta/frame-reader.ts',
    text: "if (this.#part === 'nothing') return;",
    replacement: "if (this.#part === 'nothing' || this.#number > 1) return;",
    tests: [READER],
  },
  {
    name: 'a body is unpacked however long it becomes',
    file: 'src/delta/frame-reader.ts',
    text: 'zlib.inflateRawSync(body, { maxOutputLength: unpackedBytes })',
    replacement: 'zlib.inflateRawSync(body).subarray(0, unpackedBytes)',
    tests: [READER],
  },
  {
    name: 'zeros are left out of what differs from a base',
    file: 'src/delta/changes.ts',
    text: '} else if (hasBase) extents.add(offset + done, next - done, true);',
    replacement: '} else if (!hasBase) extents.add(offset + done, next - done, true);',
    tests: [REPLICAS, COMPOSE],
  },
  {
    name: 'runs of hashes may lie before those that came',
    file: 'src/delta/hash-list.ts',
    text: 'if (count === 0 || first < this.#next ||',
    replacement: 'if (count === 0 || first < 0 ||',
    tests: [HASHES],
  },
  {
    name: 'the end of a list of hashes is not compared with what came',
    file: 'src/delta/hash-list.ts',
    text: 'frames === this.#frameCount && dataBytes === this.#hashedBytes;',
    replacement: 'frames >= 0 && dataBytes >= 0;',
    tests: [HASHES],
  },
  {
    name: 'a list of hashes that ends in the middle counts as whole',
    file: 'src/cli/hash-file.ts',
    text: 'reader.close();',
    replacement: '',
    tests: [RESYNC],
  },
  {
    name: 'a block that has become zeros counts as the same',
    file: 'src/cli/hashed-blocks.ts',
    text: 'const isSame = hash === undefined ? theirs === undefined : theirs?.equals(hash) === true;',
    replacement: 'const isSame = hash === undefined || theirs?.equals(hash) === true;',
    tests: [RESYNC],
  },
  {
    name: 'what is stored at the other side and not here is left out',
    file: 'src/cli/hashed-blocks.ts',
    text: 'if (isListed) theirs = await taken(listed);',
    replacement: 'if (isListed || theirs !== undefined) theirs = await taken(listed);',
    tests: [RESYNC],
  },
  {
    name: 'what a version between has cut off comes back when streams are put together',
    file: 'src/delta/compose.ts',
    text: 'if (length > 0) yield',
    replacement: 'if (length < 0) yield',
    tests: [COMPOSE],
  },
  {
    name: 'the second stream does not hide what the first one has behind its beginning',
    file: 'src/delta/compose.ts',
    text: 'while (low !== undefined && endOf(low) <= end) low = await taken(below);',
    replacement: 'if (low !== undefined && endOf(low) <= end) low = await taken(below);',
    tests: [COMPOSE],
  },
  {
    name: 'any snapshot of the right size is taken for the base',
    file: 'src/volume/receives.ts',
    text: 'if (originOf(snapshot) === uuid) return snapshot;',
    replacement: 'if (uuid.length > 0) return snapshot;',
    tests: [RECEIVES, REPLICAS],
  },
  {
    name: 'a stream of another volume is received into a replica',
    file: 'src/volume/receives.ts',
    text: 'if (originOf(existing) !== volume.uuid)',
    replacement: 'if (originOf(existing).length !== volume.uuid.length)',
    tests: [RECEIVES],
  },
  {
    name: 'a stream is received into a volume that goes its own way',
    file: 'src/volume/receives.ts',
    text: 'if (isReplica) return;',
    replacement: 'if (isReplica || target.length > 0) return;',
    tests: [RECEIVES, ROLES],
  },
  {
    name: 'what was on its way into a replica is published over what it has become since',
    file: 'src/volume/receives.ts',
    text: 'checkIsReplica(existing, snapshotName); // it may have been promoted meanwhile',
    replacement: '',
    tests: [ROLES],
  },
  {
    name: 'a volume that is demoted loses what no snapshot has',
    file: 'src/volume/roles.ts',
    text: 'const saved = isAsSnapshot(catalog, keeper, volume)',
    replacement: 'const saved = volume.snapshots.size > 0 || isAsSnapshot(catalog, keeper, volume)',
    tests: [ROLES],
  },
  {
    name: 'who has a volume open writes to it when it is a replica',
    file: 'src/volume/roles.ts',
    text: `      () => [find()],
      force,`,
    replacement: `      () => [find()].slice(1),
      force,`,
    tests: [ROLES],
  },
  {
    name: 'a volume that is demoted forgets what it is a replica of',
    file: 'src/volume/catalog.ts',
    text: 'volume.origin = origin ?? volume.origin;',
    replacement: 'volume.origin = origin;',
    tests: [ROLES],
  },
  {
    name: 'a stream goes on behind a gap',
    file: 'src/volume/receives.ts',
    text: 'if (position <= there) return;',
    replacement: 'if (position <= there || there === 0) return;',
    tests: [RECEIVES],
  },
  {
    name: 'a version is published while chunks of it are under way',
    file: 'src/volume/receives.ts',
    text: 'if (session.running === 0) return session;',
    replacement: 'if (session.running >= 0) return session;',
    tests: [RECEIVES],
  },
  {
    name: 'a version that was published is answered before it is on the disk',
    file: 'src/volume/receives.ts',
    text: `await this.#needs.flush();
    return name;`,
    replacement: 'return name;',
    tests: [RECEIVES],
  },
  {
    name: 'a position is answered before it is on the disk',
    file: 'src/volume/receives.ts',
    text: `    });
    await this.#needs.flush();
  }`,
    replacement: `    });
  }`,
    tests: [RECEIVES],
  },
  {
    name: 'what a longer base had behind the end of a version stays there',
    file: 'src/volume/receives.ts',
    text: 'if (position === 0 && cutBytes > 0)',
    replacement: 'if (position === 0 && cutBytes < 0)',
    tests: [RECEIVES],
  },
  {
    name: 'a replica may be written',
    file: 'src/volume/open-disks.ts',
    text: "'volume' in version || version.isReplica;",
    replacement: "'volume' in version;",
    tests: [RECEIVES],
  },
  {
    name: 'a receive is lost when the catalog is written anew',
    file: 'src/volume/catalog-parts.ts',
    text: "yield* inParts('receives', receiveParts(catalog));",
    replacement: '',
    tests: [RECEIVES],
  },
  {
    name: 'of chunks that are read together some are missing that an older version has',
    file: 'src/index/region-read.ts',
    text: 'if (block.segment(at) === 0) return false;\n  return true;\n}\n\n/** Own',
    replacement: 'if (block.segment(at) === 0) return at > index;\n  return true;\n}\n\n/** Own',
    tests: [inVolume('read-runs')],
  },
  {
    name: 'chunks that are read together are those of the last checkpoint',
    file: 'src/index/pointer-index.ts',
    text: 'wanted.forEach(({ region }, i) => overlay.mergeInto(',
    replacement: 'wanted.slice(1).forEach(({ region }, i) => overlay.mergeInto(',
    tests: [inVolume('read-runs')],
  },
  {
    name: 'a sender goes on from the beginning of the disk and not from where it is told to',
    file: 'src/volume/changes-source.ts',
    text: 'const start = Math.max(offset, position);',
    replacement: 'const start = Math.max(offset, 0);',
    tests: [REPLICAS],
  },
];
