/** Planted bugs of the index: rows, the directory of their checksums, overlays, checkpoints, rebuilds. */

import { type Fault, inIndex, inVolume } from './fault.ts';

const LOST_ROWS = inIndex('lost-rows');
const POINTER_INDEX = inIndex('pointer-index');
const KEEPER = inVolume('index-keeper');
const CHECKPOINT = inVolume('checkpoint');
const REPAIR = inVolume('index-repair');
const CHECK = inVolume('check');

export const INDEX_FAULTS: readonly Fault[] = [
  {
    name: 'an index that is being made anew states its checkpoint before it is whole',
    file: 'src/volume/index-builder.ts',
    text: 'await builder.commitPart(NOWHERE);',
    replacement: 'await builder.commitPart(checkpoint);',
    tests: [REPAIR],
  },
  {
    name: 'the checksum of an index row is not verified',
    file: 'src/index/rows.ts',
    text: 'if (crc32c(value.subarray(CHECKSUM_BYTES), crc32c(key)) !== checksum) {',
    replacement: 'if (checksum < 0) {',
    tests: [inIndex('rows'), LOST_ROWS],
  },
  {
    name: 'the checksum of an index row does not cover its key',
    file: 'src/index/rows.ts',
    text: 'if (crc32c(value.subarray(CHECKSUM_BYTES), crc32c(key)) !== checksum) {',
    replacement: 'if (crc32c(value.subarray(CHECKSUM_BYTES)) !== checksum) {',
    tests: [inIndex('rows')],
  },
  {
    name: 'a row that was replaced by its predecessor is believed',
    file: 'src/index/rows.ts',
    text: 'if (openRow(key, value) !== stated) {',
    replacement: 'if (openRow(key, value) !== stated && stated < 0) {',
    tests: [LOST_ROWS, inIndex('rows')],
  },
  {
    name: 'a pointer row that is missing reads as zeros',
    file: 'src/index/region-read.ts',
    text: `mergePointerRow(openStatedRow(keys[i]!, values[i], rows[i]!.checksum), block);`,
    replacement: `if (values[i] === undefined) continue;
        mergePointerRow(openStatedRow(keys[i]!, values[i], rows[i]!.checksum), block);`,
    tests: [LOST_ROWS, KEEPER],
  },
  {
    name: 'a list row that is missing reads as no rows',
    file: 'src/index/directory.ts',
    text: 'return this.#opened(stated, key, await this.#database.get(key));',
    replacement: `const found = await this.#database.get(key);
    return found === undefined ? new RowList() : this.#opened(stated, key, found);`,
    tests: [LOST_ROWS, KEEPER],
  },
  {
    name: 'a list row that is missing reads as no rows, to who reads many at once',
    file: 'src/index/directory.ts',
    text: 'all[place] = this.#opened(stated, keys[i]!, values[i]);',
    replacement: 'all[place] = values[i] ? this.#opened(stated, keys[i]!, values[i]) : new RowList();',
    tests: [LOST_ROWS, KEEPER, inVolume('compaction')],
  },
  {
    name: 'a list that was written again is taken for the one that was read before',
    file: 'src/index/list-cache.ts',
    text: 'a.generation === b.generation &&',
    replacement: 'a.generation <= b.generation &&',
    tests: [inIndex('list-cache')],
  },
  {
    name: 'a node of the directory that is missing reads as no rows',
    file: 'src/index/directory.ts',
    text: 'const node = LeafNode.decode(openStatedRow(key, await this.#database.get(key), stated));',
    replacement: `const found = await this.#database.get(key);
    if (found === undefined) return undefined;
    const node = LeafNode.decode(openStatedRow(key, found, stated));`,
    tests: [LOST_ROWS, KEEPER],
  },
  {
    name: 'roots of an earlier checkpoint are believed',
    file: 'src/index/pointer-index.ts',
    text: "check(digest === checkpoint.rootsDigest, 'the roots are not those of the checkpoint');",
    replacement: "check(digest >= 0, 'the roots are not those of the checkpoint');",
    tests: [LOST_ROWS],
  },
  {
    name: 'usage rows of an earlier checkpoint are believed',
    file: 'src/index/pointer-index.ts',
    text: 'check(index.usage.digest === checkpoint.usageDigest,',
    replacement: 'check(index.usage.digest >= 0,',
    tests: [LOST_ROWS],
  },
  {
    name: 'the index of another store is taken',
    file: 'src/index/pointer-index.ts',
    text: "check(checkpoint.uuid.equals(uuid), 'the index belongs to another store');",
    replacement: '',
    tests: [POINTER_INDEX, KEEPER],
  },
  {
    name: 'the rows of a region with one version are dropped by a commit',
    file: 'src/index/region-merge.ts',
    text: 'if (row !== undefined) rows = [...rows, row];',
    replacement: 'if (row !== undefined && rows.length > 0) rows = [...rows, row];',
    tests: [POINTER_INDEX],
  },
  {
    name: 'a tombstone is dropped early: holes that hide what is inherited go with a checkpoint',
    file: 'src/index/region-merge.ts',
    text: 'if (isRoot(label)) clearHoles(after);',
    replacement: 'clearHoles(after);',
    tests: [POINTER_INDEX],
  },
  {
    name: "a tombstone is dropped early: a root's hole goes and the row that it hid stays",
    file: 'src/index/region-merge.ts',
    text: 'const rewrite = cleared > 0 || own.length',
    replacement: 'const rewrite = own.length',
    tests: [POINTER_INDEX],
  },
  {
    name: 'the chunks that a segment loses are not counted',
    file: 'src/index/region-merge.ts',
    text: 'if (from !== 0 && from !== HOLE) usage.set(from, (usage.get(from) ?? 0) - 1);',
    replacement: '',
    tests: [POINTER_INDEX, CHECK],
  },
  {
    name: 'a tombstone is lost: zeros over whole regions are not kept',
    file: 'src/index/overlay.ts',
    text: 'this.zeroed.put(tree, label, wholeFirst, wholeEnd, sequence);',
    replacement: '',
    tests: [inIndex('overlay'), POINTER_INDEX],
  },
  {
    name: 'a commit passes regions by that were zeroed and not written',
    file: 'src/index/pointer-index.ts',
    text: 'if (overlay.zeroed.isEmpty) return regions;',
    replacement: 'if (regions.length >= 0) return regions;',
    tests: [POINTER_INDEX],
  },
  {
    name: 'the later pointer counts, and not the one with the higher sequence',
    file: 'src/index/pointers.ts',
    text: 'if (this.segment(index) !== 0 && this.sequence(index) > sequence) return;',
    replacement: '',
    tests: [inIndex('pointers'), inIndex('overlay')],
  },
  {
    name: 'a block that is out of places gives one away twice',
    file: 'src/index/pointers.ts',
    text: 'if (this.#taken === COMPACT_MAX) {',
    replacement: 'if (this.#taken === 255) {',
    tests: [inIndex('pointers')],
  },
  {
    name: 'pages that grow take up no room',
    file: 'src/index/pages.ts',
    text: 'if (bytes !== this.bytes) this.table.grew(this, bytes);',
    replacement: '',
    tests: [inIndex('pages')],
  },
  {
    name: 'who waits for rows while all calls are under way is forgotten',
    file: 'src/index/gathered-rows.ts',
    text: 'this.#calls -= 1;',
    replacement: '',
    tests: [inIndex('gathered-rows')],
  },
  {
    name: 'a version reads what its siblings have written',
    file: 'src/index/overlay.ts',
    text: 'this.#mergeInto(block, tree, region, (label) => path.has(label));',
    replacement: 'this.#mergeInto(block, tree, region, () => true);',
    tests: [inIndex('overlay'), POINTER_INDEX],
  },
  {
    name: 'the path to the ancestors ends at the parent',
    file: 'src/index/version-tree.ts',
    text: 'for (let at = label; at !== 0; at = this.#nodes.get(at)!.parent) {',
    replacement: 'for (let at = label; at !== 0 && labels.length < 2; at = this.#nodes.get(at)!.parent) {',
    tests: [POINTER_INDEX],
  },
  {
    name: "a checkpoint's frozen overlay is lost when its batch fails",
    file: 'src/index/pointer-index.ts',
    text: 'const overlay = this.#overlays.frozen!;',
    replacement: 'const overlay = this.#overlays.frozen!;\n      this.#overlays.frozen = undefined;',
    tests: [REPAIR],
  },
  {
    name: 'a commit of the index is not synced',
    file: 'src/index/index-batch.ts',
    text: 'await this.#batch.write({ sync: true } as AbstractChainedBatchWriteOptions);',
    replacement: 'await this.#batch.write({} as AbstractChainedBatchWriteOptions);',
    tests: [POINTER_INDEX],
  },
  {
    name: 'a load does not see what a commit moved meanwhile',
    file: 'src/index/pointer-index.ts',
    text: 'const overlays = new Set([...before, this.#overlays.frozen, this.#overlays.active]);',
    replacement: 'const overlays = new Set([this.#overlays.frozen, this.#overlays.active]);',
    tests: [POINTER_INDEX],
  },
  {
    name: 'a load that two commits overtook is not repeated',
    file: 'src/index/pointer-index.ts',
    text: 'if (this.#commits > commits + 1) continue;',
    replacement: '',
    tests: [POINTER_INDEX],
  },
  {
    name: 'the index is ahead: a batch goes to LevelDB before the log is synced',
    file: 'src/volume/index-keeper.ts',
    text: `const started = this.#environment.clock.now();
    await this.#log.flush();`,
    replacement: 'const started = this.#environment.clock.now();',
    tests: [CHECKPOINT],
  },
  {
    name: 'the overlay freezes before its catalog is written: what is written in between is lost',
    file: 'src/volume/index-keeper.ts',
    text: `const appended = await this.#appender.append((append) => {
      this.#index.freeze();`,
    replacement: `this.#index.freeze();
    const appended = await this.#appender.append((append) => {`,
    tests: [CHECKPOINT, KEEPER],
  },
  {
    name: 'after a failed batch the index is used on without being opened again',
    file: 'src/volume/index-keeper.ts',
    text: `if (index === this.#index) this.mend(error, isDamage(error));
        await this.#repair.underWay;`,
    replacement: '',
    tests: [REPAIR],
  },
  {
    name: 'LevelDB that found no room is written again as it is, once there is some',
    file: 'src/volume/index-repair.ts',
    text: `      this.begin(this.#lackedRoom, false);
      await this.#underWay;`,
    replacement: '      this.#lackedRoom = undefined;',
    tests: [REPAIR],
  },
  {
    name: 'LevelDB that found no room is closed where it cannot be opened again',
    file: 'src/volume/index-repair.ts',
    text: 'if (lacksRoom(cause) && !(await this.#hasRoom())) {',
    replacement: 'if (this.#owner.isClosed()) {',
    tests: [REPAIR],
  },
  {
    name: 'an index that was opened again and has lost a checkpoint is used on',
    file: 'src/volume/index-repair.ts',
    text: 'reopened.checkpoint.generation >= old.checkpoint.generation',
    replacement: 'reopened.checkpoint.generation >= 0',
    tests: [CHECKPOINT],
  },
  {
    name: 'the index is made anew from a part of the log, without an error',
    file: 'src/volume/index-builder.ts',
    text: "if (whole.reached < until || whole.damage.some(({ code }) => code === 'LOG_SEGMENT_LOST'))",
    replacement: 'if (whole.reached < 0)',
    tests: [KEEPER],
  },
  {
    name: 'an index is made anew up to where it was before the commit that is under way',
    file: 'src/volume/index-repair.ts',
    text: `  await old.close().catch(() => undefined);
  for (let attempt = 1; ; attempt++) {
    try {
      const { base, present, indexedAppend } = logNow();
      // A commit that was reported as failed may have been made.
      const until = Math.max(indexedAppend, old.checkpoint.append);`,
    replacement: `  const { base, present, indexedAppend } = logNow();
  const until = Math.max(indexedAppend, old.checkpoint.append);
  await old.close().catch(() => undefined);
  for (let attempt = 1; ; attempt++) {
    try {`,
    tests: [inVolume('index-repair')],
  },
  {
    name: 'an index that is damaged again as soon as it was made anew is not made once more',
    file: 'src/volume/index-repair.ts',
    text: 'if (!isDamage(error) || attempt === REBUILDS_MAX) throw error;',
    replacement: 'if (attempt > 0) throw error;',
    tests: [KEEPER],
  },
  {
    name: 'clients are told of damaged rows',
    file: 'src/volume/index-errors.ts',
    text: "if (hasCode(error, 'INDEX_DAMAGED') || hasCode(error, 'NOT_FOUND'))",
    replacement: "if (hasCode(error, 'NOT_FOUND'))",
    tests: [KEEPER],
  },
];
