/** Planted bugs of versions: deletes, heirs and orphans, extents, rollback, resize, holds, space. */

import { type Fault, inIndex, inVolume } from './fault.ts';

const DELETES = inIndex('deletes');
const ORACLE = inIndex('oracle');
const LOST_ROWS = inIndex('lost-rows');
const CATALOG = inVolume('catalog');
const MODEL = inVolume('model');
const VERSIONS = inVolume('versions');
const REPAIR = inVolume('index-repair');

export const VERSION_FAULTS: readonly Fault[] = [
  {
    name: 'versions are forgotten though an index that was made anew has again what they had',
    file: 'src/volume/version-pruner.ts',
    text: 'if (keeper.index !== index || keeper.isInRepair) return false;',
    replacement: 'if (keeper.index !== index && keeper.isInRepair) return false;',
    tests: [REPAIR],
  },
  {
    name: 'an index that is made anew hands on what versions had that the open store has not forgotten',
    file: 'src/volume/index-builder.ts',
    text: 'destinies.set(label, now.holderOf(label)?.label ?? DEAD);',
    replacement: 'destinies.set(label, now.tree.children(label)[Symbol.iterator]().next().value ?? DEAD);',
    tests: [inVolume('compaction-following')],
  },
  {
    name: 'a pointer that nobody inherits is kept when its version is deleted',
    file: 'src/index/heirs.ts',
    text: 'if (orphans.chunks[i] === INHERITED) dropped(segment);',
    replacement: 'if (orphans.chunks[i] === INHERITED) continue;',
    tests: [DELETES, ORACLE],
  },
  {
    name: 'a pointer is dropped though a version below a ghost inherits it',
    file: 'src/index/heirs.ts',
    text: `if (view.isHidden(version)) {
      below(version, inherited);
      continue;
    }`,
    replacement: 'if (view.isHidden(version)) continue;',
    tests: [DELETES, ORACLE],
  },
  {
    name: 'a pointer of a version in between does not end what is inherited',
    file: 'src/index/heirs.ts',
    text: 'if (own.segment(i) !== 0) left[i] = 0;',
    replacement: 'if (own.segment(i) !== 0 && i < 0) left[i] = 0;',
    tests: [DELETES, ORACLE],
  },
  {
    name: 'pointers are not handed on to the version that stays',
    file: 'src/index/heirs.ts',
    text: 'else heir.put(i, segment, block.offset(i), block.checksum(i), block.sequence(i));',
    replacement:
      'else if (i % 2 === 0) heir.put(i, segment, block.offset(i), block.checksum(i), block.sequence(i));',
    tests: [DELETES, ORACLE],
  },
  {
    name: 'ghosts above a deleted version are not judged again',
    file: 'src/index/heirs.ts',
    text: 'for (const each of [label, ...view.ghostsAbove(label)]) {',
    replacement: 'for (const each of [label]) {',
    tests: [DELETES, ORACLE],
  },
  {
    name: 'a write that ends what the last heir inherited leaves an orphan',
    file: 'src/index/pointer-index.ts',
    text: 'const rows = await this.#dropOrphans(region, merged, overlay, view, batch);',
    replacement: 'const rows = merged;',
    tests: [DELETES, ORACLE],
  },
  {
    name: 'a version that was deleted after the checkpoint counts as deleted in it',
    file: 'src/index/version-tree.ts',
    text: 'return hidden > 0 && hidden <= this.#asOf;',
    replacement: 'return hidden > 0;',
    tests: [DELETES],
  },
  {
    name: 'a prune forgets what a segment lost',
    file: 'src/index/index-batch.ts',
    text: 'if (segment !== HOLE) this.usage.set(segment, (this.usage.get(segment) ?? 0) - 1);',
    replacement: '',
    tests: [DELETES],
  },
  {
    name: 'extents are not kept when pointers are handed on',
    file: 'src/index/region-prune.ts',
    text: 'batch.extents.put(label, content.region, block);',
    replacement: '',
    tests: [DELETES],
  },
  {
    name: 'extents are not kept when pointers are merged',
    file: 'src/index/region-merge.ts',
    text: 'batch.extents.put(label, region.region, after);',
    replacement: '',
    tests: [DELETES, MODEL],
  },
  {
    name: 'extent rows that are missing or outdated are believed',
    file: 'src/index/extent-table.ts',
    text: 'if (rows.length !== stated.rows || digest >>> 0 !== stated.digest) {',
    replacement: 'if (rows.length > stated.rows && digest < 0) {',
    tests: [LOST_ROWS],
  },
  {
    name: 'window rows of an earlier checkpoint are believed',
    file: 'src/index/pointer-index.ts',
    text: 'index.extents.digest === checkpoint.windowsDigest,',
    replacement: 'index.extents.digest >= 0,',
    tests: [LOST_ROWS],
  },
  {
    name: 'space that is inherited by two is counted as one version alone',
    file: 'src/index/space-count.ts',
    text: 'if (visible === 1) this.#own[numbers]! += 1;',
    replacement: 'if (visible <= 2) this.#own[Math.min(numbers, this.#own.length - 1)]! += 1;',
    tests: [DELETES],
  },
  {
    name: 'space below another pointer is counted for the one above',
    file: 'src/index/space-count.ts',
    text: 'if (depth > 0) this.#take(above[depth - 1]!, start, end);',
    replacement: '',
    tests: [DELETES],
  },
  {
    name: 'deletes are forgotten when the store is closed before they are finished',
    file: 'src/volume/catalog-parts.ts',
    text: "yield* inParts('pending', catalog.pending);",
    replacement: '',
    tests: [CATALOG],
  },
  {
    name: 'a hidden version is named again after the store was opened',
    file: 'src/volume/catalog-parts.ts',
    text: 'if (hidden !== undefined && hidden > 0) catalog.tree.hide(label, hidden);',
    replacement: '',
    tests: [VERSIONS],
  },
  {
    name: 'holds and priorities are lost with a checkpoint',
    file: 'src/volume/catalog-parts.ts',
    text: 'if (snapshot.holds.length > 0) part.holds = snapshot.holds;',
    replacement: '',
    tests: [VERSIONS],
  },
  {
    name: 'a snapshot that is held is deleted',
    file: 'src/volume/version-removal.ts',
    text: 'if (held.length > 0) {',
    replacement: 'if (held.length > 1000) {',
    tests: [VERSIONS],
  },
  {
    name: 'a rollback forgets what the volume was before',
    file: 'src/volume/saved-head.ts',
    text: 'return above.sizeBytes === volume.sizeBytes && !keeper.hasPointers(volume.label);',
    replacement: 'return above.sizeBytes > 0 || volume.sizeBytes > 0 || keeper.hasPointers(-1);',
    tests: [VERSIONS, MODEL, inVolume('roles')],
  },
  {
    name: 'a snapshot that goes by itself counts as what a rollback has saved',
    file: 'src/volume/saved-head.ts',
    text: ' || above.madeBy !== null || above.priority < 0)',
    replacement: ')',
    tests: [inVolume('saved-head')],
  },
  {
    name: 'a rollback takes the size that the volume had last',
    file: 'src/volume/catalog.ts',
    text: 'volume.sizeBytes = change.size;\n        return;\n      }\n      case',
    replacement: 'return;\n      }\n      case',
    tests: [VERSIONS, MODEL],
  },
  {
    name: 'what was cut off is there again when the volume grows',
    file: 'src/volume/store.ts',
    text: 'this.#keeper.overlays.active.putZeros(tree, cut.label, cut.first, cut.count, sequence);',
    replacement: '',
    tests: [VERSIONS, MODEL],
  },
  {
    name: 'what was cut off is there again after a crash',
    file: 'src/volume/replay.ts',
    text: 'if (node !== undefined) this.#overlays.active.putZeros(node.tree, node.label, first, count, sequence);',
    replacement: 'if (node === undefined) return;',
    tests: [VERSIONS],
  },
  {
    name: 'the rest of the last chunk is there again when the volume grows',
    file: 'src/volume/version-removal.ts',
    text: 'await disk.clearBehindEnd();',
    replacement: '',
    tests: [VERSIONS, MODEL],
  },
  {
    name: 'a write that waited for a resize goes to a volume that is rolled back',
    file: 'src/volume/open-disks.ts',
    text: 'open.disk.isTakenBack = true;',
    replacement: '',
    tests: [VERSIONS],
  },
  {
    name: 'a device that was taken back is used on',
    file: 'src/volume/version-device.ts',
    text: 'this.#isRevoked = true;',
    replacement: 'this.#isRevoked = false;',
    tests: [VERSIONS],
  },
  {
    name: 'a volume that is attached is deleted without a word',
    file: 'src/volume/fence.ts',
    text: 'if (!force) this.#checkDetached(versions);',
    replacement: '',
    tests: [VERSIONS],
  },
];
