/** Planted bugs of the checker: damage that it would pass by, or tell to the wrong people. */

import { type Fault, inCheck, inVolume } from './fault.ts';

const RECORDS = inCheck('record-damage');
const SEGMENTS = inCheck('segment-damage');
const CATALOG = inCheck('catalog-damage');
const INDEX = inCheck('index-damage');

export const CHECK_FAULTS: readonly Fault[] = [
  {
    name: 'the checker does not verify the chunks of the log',
    file: 'src/check/segment-audit.ts',
    text: 'if (chunk.length < CHUNK_BYTES || crc32c(chunk) !== checksums[c]) return c;',
    replacement: '',
    tests: [RECORDS],
  },
  {
    name: 'the checker does not compare footers with records',
    file: 'src/check/segment-audit.ts',
    text: 'if (footer !== undefined) this.#compare(found, stated.get(offset));',
    replacement: '',
    tests: [SEGMENTS],
  },
  {
    name: 'the checker does not look at the second copy of header and table',
    file: 'src/check/segment-audit.ts',
    text: 'if (!isCopied || isCopy) return;',
    replacement: 'if (isCopied || !isCopy) return;',
    tests: [RECORDS],
  },
  {
    name: 'the checker does not verify chunks whose record only the footer tells of',
    file: 'src/check/segment-audit.ts',
    text: 'if (known !== undefined) await this.#payload(known);',
    replacement: '',
    tests: [RECORDS],
  },
  {
    name: 'the checker does not look at the second copy of the superblock',
    file: 'src/check/superblock-check.ts',
    text: "if (state === 'whole' || isNew) continue;",
    replacement: "if (state === 'whole' || isNew || slot === 2) continue;",
    tests: [SEGMENTS],
  },
  {
    name: 'damage is told to the version that wrote the chunk, and not to those that inherit it',
    file: 'src/check/readers.ts',
    text: 'if ((blocks.get(child)?.segment(index) ?? 0) === 0) pending.push(child);',
    replacement: 'if (blocks.size < 0) pending.push(child);',
    tests: [RECORDS],
  },
  {
    name: 'damage is told to versions that have written the chunk over',
    file: 'src/check/readers.ts',
    text: 'if ((blocks.get(child)?.segment(index) ?? 0) === 0) pending.push(child);',
    replacement: 'pending.push(child);',
    tests: [RECORDS],
  },
  {
    name: 'damage of a chunk that nobody reads counts',
    file: 'src/volume/check.ts',
    text: 'if (damage.live === 0)',
    replacement: 'if (damage.live < 0)',
    tests: [RECORDS],
  },
  {
    name: 'what a torn append leaves is taken for rot',
    file: 'src/volume/log-reading.ts',
    text: 'return { provenEnd: at === last ? provenEnd!.offset : 0 };',
    replacement: 'return {};',
    tests: [RECORDS],
  },
  {
    name: 'the end of the log may be gone without anybody being told',
    file: 'src/volume/lost-damage.ts',
    text: 'if (isShort) {',
    replacement: 'if (isShort && isOnline) {',
    tests: [RECORDS],
  },
  {
    name: 'what is lost with its record is told of the index as well',
    file: 'src/check/index-comparison.ts',
    text: 'return this.#lost.hasPlace(segment, is.offset(at));',
    replacement: 'return false;',
    tests: [RECORDS],
  },
  {
    name: 'the index is not compared with the log',
    file: 'src/check/index-comparison.ts',
    text: 'this.#note(label, chunk, readersOf(this.#names.tree, blocks, label, at));',
    replacement: 'void blocks;',
    tests: [INDEX],
  },
  {
    name: 'the newest catalog is not held against the changes before it',
    file: 'src/volume/checked-replay.ts',
    text: 'this.#differ([...catalogDifferences(stated, made)]);',
    replacement: 'void made;',
    tests: [CATALOG],
  },
  {
    name: 'a change that cannot be applied ends the check',
    file: 'src/volume/checked-replay.ts',
    text: 'if (problem !== undefined) return say(problem);',
    replacement: '',
    tests: [CATALOG],
  },
  {
    name: 'a catalog whose tree does not hold together is believed',
    file: 'src/volume/catalog-parts.ts',
    text: 'for (const problem of treeProblems(parts))',
    replacement: 'for (const problem of treeProblems([]))',
    tests: [inVolume('catalog')],
  },
  {
    name: 'the checker opens the index where it is',
    file: 'src/volume/check-offline.ts',
    text: 'openIndex: (location: string) => openIndexCopy(location, openDatabase),',
    replacement: '',
    tests: [inVolume('check')],
  },
];
