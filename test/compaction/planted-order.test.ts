/** What a round and the removal of files rely on, one thing at a time: a compactor whose store is a stub. */

import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { type CompactionHost, Compactor } from '../../src/compaction/compactor.ts';
import { StoreError } from '../../src/base/errors.ts';
import { Overlay } from '../../src/index/overlay.ts';
import type { OwnPlace, PinnedIndex } from '../../src/index/pinned-index.ts';
import type { PointerIndex } from '../../src/index/pointer-index.ts';
import { PointerBlock, REGION_CHUNKS } from '../../src/index/pointers.ts';
import { segmentPath } from '../../src/log/format.ts';
import { SegmentLedger } from '../../src/log/segment-ledger.ts';
import { Random } from '../support/random.ts';
import { type Chunk, chunksOf, Sources } from './rig.ts';

/** Segments of a log, of which a compactor is told what the test says. */
class Stub {
  readonly sources: Sources;
  readonly ledger: SegmentLedger;
  readonly compactor: Compactor;
  readonly host: CompactionHost & { committed: number };
  /** Live chunks by segment, as the index counts them. */
  readonly usage = new Map<number, number>();
  /** Where pointers lead. */
  live: Chunk[] = [];
  readonly steps: string[] = [];
  replace: CompactionHost['replace'] = async (replacement) => {
    this.ledger.replace(replacement);
    this.steps.push('replace');
  };

  private constructor(sources: Sources) {
    this.sources = sources;
    this.ledger = new SegmentLedger(sources.segments);
    const { log } = sources;
    const checkpoint = { segment: 1000, offset: 4096, append: 5000 };
    const index = { checkpoint, usage: { of: (segment: number) => this.usage.get(segment) ?? 0 } };
    const pinned = {
      moment: Symbol('moment'),
      usage: this.usage,
      ownPointers: async (places: readonly OwnPlace[], blocks: readonly PointerBlock[]) =>
        places.forEach(({ label, region }, i) => blocks[i]!.copyFrom(this.#block(label, region))),
    };
    this.host = {
      storage: sources.storage,
      uuid: log.numbers.superblock.uuid,
      logger: silentLogger,
      numbers: log.numbers,
      ledger: this.ledger,
      supply: log.supply,
      files: log.files,
      index: index as unknown as PointerIndex,
      holderOf: (label) => ({ label, tree: 1 }),
      withoutPrunes: (work) => work(),
      reading: (read) => read(pinned as unknown as PinnedIndex),
      settleLabels: async () => undefined,
      replace: (replacement, moves, moment) => this.replace(replacement, moves, moment),
      overlays: { active: new Overlay(), frozen: undefined },
      freezes: 0,
      committed: 0,
      exclusively: (work) => work(index as unknown as PointerIndex),
      repaired: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        this.steps.push('repaired');
      },
    };
    this.compactor = new Compactor(this.host, sources.mover);
  }

  static async begin(): Promise<Stub> {
    const sources = await Sources.begin();
    await sources.fill(new Random(1));
    expect(sources.segments.length).toBeGreaterThan(2);
    const stub = new Stub(sources);
    sources.storage.beforeChange = ({ operation, path }) => {
      if (operation === 'remove') stub.steps.push(`remove ${path}`);
      if (operation === 'datasync' && path === 'superblock') stub.steps.push('base');
    };
    return stub;
  }

  /** So many chunks of segment 1 live. */
  async takeLive(count: number): Promise<void> {
    const { chunks } = await this.sources.findAll([1]);
    this.live = chunksOf(chunks).slice(0, count);
    this.usage.set(1, count);
  }

  #block(label: number, region: number): PointerBlock {
    const block = new PointerBlock();
    for (const { label: of, chunk, segment, offset, checksum, sequence } of this.live) {
      if (of === label && Math.floor(chunk / REGION_CHUNKS) === region)
        block.put(chunk % REGION_CHUNKS, segment, offset, checksum, sequence);
    }
    return block;
  }

  retire(segment: number): void {
    this.ledger.replace({ victims: [segment], moves: [] });
  }

  /** Numbers of the files of the log. */
  get files(): string[] {
    return this.sources.storage.names('log');
  }
}

describe('the files of retired segments', () => {
  it('go once the base has moved, and nobody reads the log from the old one', async () => {
    const stub = await Stub.begin();
    for (const segment of [1, 2]) stub.retire(segment);
    const { supply } = stub.host;
    const before = supply.usedBytes;
    const given: number[] = [];
    await stub.compactor.removeRetired(() => given.push(before - supply.usedBytes));
    expect(given, 'room comes back file by file').toEqual([1 << 20, 2 << 20]);
    expect(stub.steps).toEqual(['base', 'repaired', ...[1, 2].map((each) => `remove ${segmentPath(each)}`)]);
    expect(stub.sources.log.numbers.superblock.base).toEqual({ segment: 1000, offset: 4096, append: 5000 });
    expect(stub.ledger.retired.size).toBe(0);
  });

  it('are forgotten once nothing can bring their names back', async () => {
    const stub = await Stub.begin();
    for (const segment of [1, 2]) stub.retire(segment);
    const known: number[][] = [];
    stub.sources.storage.gate = async ({ operation }) => {
      if (operation === 'syncDirectory') known.push([...stub.ledger.retired]);
    };
    await stub.compactor.removeRetired();
    expect(known).toEqual([[1, 2]]);
    expect(stub.ledger.retired.size).toBe(0);
  });

  it('are removed once, and stay known until a sync that failed was tried again', async () => {
    const stub = await Stub.begin();
    await stub.compactor.round([1, 2], 'disk');
    expect(stub.compactor.comingBytes).toBe(2 << 20);
    const { supply } = stub.host;
    const before = supply.usedBytes;
    const segmentCount = supply.segmentCount;
    stub.sources.storage.fail('syncDirectory', { path: /^log$/ });
    await expect(stub.compactor.removeRetired()).rejects.toMatchObject({ code: 'IO' });
    expect([...stub.ledger.retired]).toEqual([1, 2]);
    expect(stub.compactor.comingBytes).toBe(0);
    stub.steps.length = 0;
    await stub.compactor.removeRetired();
    expect(stub.steps).not.toContain(`remove ${segmentPath(1)}`);
    expect(before - supply.usedBytes).toBe(2 << 20);
    expect(segmentCount - supply.segmentCount).toBe(2);
    expect(stub.ledger.retired.size).toBe(0);
  });

  it('stay where the base cannot move', async () => {
    const stub = await Stub.begin();
    stub.retire(1);
    const before = stub.files;
    stub.sources.storage.fail('write', { path: /^superblock/ });
    await expect(stub.compactor.removeRetired()).rejects.toMatchObject({ code: 'IO' });
    expect(stub.files).toEqual(before);
    expect([...stub.ledger.retired]).toEqual([1]);
  });

  it('stay while anything lives in them, whoever says that nothing does', async () => {
    const stub = await Stub.begin();
    for (const segment of [1, 2]) stub.retire(segment);
    stub.usage.set(1, 3);
    await stub.compactor.removeRetired();
    expect(stub.steps.filter((step) => step.startsWith('remove'))).toEqual([`remove ${segmentPath(2)}`]);
    expect([...stub.ledger.retired]).toEqual([1]);
  });
});

describe('a round', () => {
  it('does not retire a segment of which something lives that its records do not explain', async () => {
    const stub = await Stub.begin();
    stub.usage.set(1, 2);
    expect(await stub.compactor.round([1, 2], 'disk')).toMatchObject({ victims: 1 });
    expect([...stub.ledger.retired]).toEqual([2]);
    expect(stub.ledger.segments.has(1)).toBe(true);
    expect(stub.compactor.isEligible(1)).toBe(false);
  });

  it('goes before a checkpoint does, for pointers in rows that stand below moves', async () => {
    const stub = await Stub.begin();
    await stub.takeLive(60);
    expect(await stub.compactor.round([1], 'disk')).toMatchObject({ victims: 1, movedBytes: 60 * 4096 });
    expect(stub.usage.get(1)).toBe(60);
    await stub.compactor.removeRetired();
    expect(stub.files).not.toContain(segmentPath(1).slice('log/'.length));
  });

  it('copies nothing that has been written over or trimmed since the rows were written', async () => {
    const stub = await Stub.begin();
    await stub.takeLive(60);
    const { active } = stub.host.overlays;
    stub.live.slice(0, 20).forEach(({ label, chunk, sequence }, i) => {
      const newer = sequence + 10_000;
      if (i < 10) active.putChunks(1, label, chunk, 1, 999, 4096, new Uint32Array(1), newer);
      else active.putZeros(1, label, chunk, 1, newer);
    });
    expect(await stub.compactor.round([1], 'disk')).toMatchObject({ victims: 1, movedBytes: 40 * 4096 });
  });

  it('leaves nothing behind if the log has no room to state it, and is done when it has', async () => {
    const stub = await Stub.begin();
    await stub.takeLive(60);
    const before = { files: stub.files, segments: new Set(stub.ledger.segments) };
    const { replace } = stub;
    let stated: number[] = [];
    stub.replace = async ({ moves }) => {
      stated = [...moves];
      throw new StoreError('NO_SPACE', 'the catalog was made to fail');
    };
    await expect(stub.compactor.round([1], 'disk')).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect(stated.length).toBeGreaterThan(0);
    expect(stub.files).toEqual(before.files);
    expect(stub.ledger.segments).toEqual(before.segments);
    expect(stub.ledger.retired.size).toBe(0);
    stub.replace = replace;
    expect(await stub.compactor.round([1], 'disk')).toMatchObject({ victims: 1, movedBytes: 60 * 4096 });
    expect(stub.steps).toContain('replace');
  });

  it('leaves its moves where they are if the catalog may be in the log all the same', async () => {
    const stub = await Stub.begin();
    await stub.takeLive(60);
    const before = stub.files.length;
    stub.replace = async () => {
      throw new StoreError('IO', 'the write of the catalog was made to fail');
    };
    await expect(stub.compactor.round([1], 'disk')).rejects.toMatchObject({ code: 'IO' });
    expect(stub.files.length).toBeGreaterThan(before);
    expect(stub.ledger.retired.size).toBe(0);
  });

  it('makes no victims of what it has moved before a checkpoint leads there', async () => {
    const stub = await Stub.begin();
    await stub.takeLive(60);
    await stub.compactor.round([1], 'disk');
    const moves = [...stub.ledger.segments].filter((segment) => !stub.sources.segments.includes(segment));
    await stub.compactor.refresh();
    expect(moves.map((segment) => stub.compactor.isEligible(segment))).toEqual(moves.map(() => false));
    stub.host.committed = 1;
    expect(moves.map((segment) => stub.compactor.isEligible(segment))).toEqual(moves.map(() => true));
  });

  it('makes no victims of what it moves while pointers follow, nor does one that waited for it', async () => {
    const stub = await Stub.begin();
    await stub.takeLive(60);
    const { replace } = stub;
    let eligible: boolean[] | undefined;
    let moved: readonly number[] = [];
    stub.replace = async (replacement, moves, moment) => {
      await replace(replacement, moves, moment);
      // The log states them, and not every pointer has followed.
      moved = [...replacement.moves];
      await stub.compactor.refresh();
      eligible = moved.map((segment) => stub.compactor.isEligible(segment));
    };
    await stub.compactor.round([1], 'disk');
    expect(moved.length).toBeGreaterThan(0);
    expect(eligible).toEqual(moved.map(() => false));
    // Chosen before, as if nothing in it lived: rows say so.
    for (const segment of moved) stub.usage.set(segment, 0);
    expect(await stub.compactor.round(moved, 'disk')).toMatchObject({ victims: 0 });
    for (const segment of moved) expect(stub.ledger.segments.has(segment)).toBe(true);
    // Nor are they blamed for it.
    stub.host.committed = 1;
    expect(moved.map((segment) => stub.compactor.isEligible(segment))).toEqual(moved.map(() => true));
  });

  it('makes no victims of what recovery has followed before a checkpoint leads there', async () => {
    const stub = await Stub.begin();
    await stub.takeLive(60);
    await stub.compactor.round([1], 'disk');
    const moves = [...stub.ledger.segments].filter((segment) => !stub.sources.segments.includes(segment));
    const next = new Compactor(stub.host, stub.sources.mover, moves);
    await next.refresh();
    expect(moves.map((segment) => next.isEligible(segment))).toEqual(moves.map(() => false));
    stub.host.committed = 1;
    expect(moves.map((segment) => next.isEligible(segment))).toEqual(moves.map(() => true));
  });
});
