/** Compaction that was asked for, held against a compactor that does as it is told: what it does where a round fails. */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { Compactor, RoundResult } from '../../src/compaction/compactor.ts';
import { ThoroughCompaction, type ThoroughSurroundings } from '../../src/compaction/thorough.ts';
import { MIB } from '../log/rig.ts';

/** Forty segments, a quarter of each alive; `fail` decides what becomes of a round. */
class Rig {
  readonly segments = new Set(Array.from({ length: 40 }, (_, i) => i + 1));
  readonly suspect = new Set<number>();
  readonly stuck = new Set<number>();
  readonly rounds: number[][] = [];
  fail: (victims: readonly number[]) => StoreError | undefined = () => undefined;
  /** What happens while a checkpoint is written. */
  checkpoint: ThoroughSurroundings['checkpoint'] = async () => undefined;
  readonly chainSegment = { segment: 1000 };

  async run(purge = false): Promise<void> {
    const compactor = {
      refresh: async () => undefined,
      table: { get: () => ({ bytes: MIB }), zerosBytes: () => 0, forgetZeros: () => undefined },
      isEligible: (segment: number) => !this.stuck.has(segment),
      holdsDead: async () => true,
      suspect: this.suspect,
      removeRetired: async () => undefined,
      scatter: async () => undefined,
      round: (victims: readonly number[]) => this.#round(victims),
    } as unknown as Compactor;
    const around: ThoroughSurroundings = {
      segments: this.segments,
      liveChunks: () => 64,
      freeBytes: async () => 10 * MIB,
      segmentBytes: MIB,
      checkpoint: (isMoved) => this.checkpoint(isMoved),
      chainSegment: this.chainSegment,
      roll: async () => undefined,
      sleep: async () => undefined,
      now: () => 0,
    };
    const options = { target: 0.6, purge, bytesPerSecond: undefined };
    for await (const _ of new ThoroughCompaction(compactor, around, options).run());
  }

  async #round(victims: readonly number[]): Promise<RoundResult> {
    this.rounds.push([...victims]);
    const error = this.fail(victims);
    if (error !== undefined) {
      if (error.code === 'CORRUPTION')
        for (const each of victims) (victims.length === 1 ? this.stuck : this.suspect).add(each);
      throw error;
    }
    for (const each of victims) this.segments.delete(each);
    return { victims: victims.length, movedBytes: 0, writtenBytes: 0, freedBytes: victims.length * MIB };
  }
}

const NO_SPACE = new StoreError('NO_SPACE', 'others have used it');
const ROTTEN = new StoreError('CORRUPTION', 'segment 7 is rotten');

describe('compaction that was asked for', () => {
  it('goes on with less where others have used the room, and gives up in the end', async () => {
    const rig = new Rig();
    let refusals = 3;
    rig.fail = () => (refusals-- > 0 ? NO_SPACE : undefined);
    await rig.run();
    expect(rig.segments.size).toBe(0);
    const sizes = rig.rounds.slice(0, 4).map(({ length }) => length);
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
    expect(sizes[3]).toBeLessThan(sizes[0]! / 4);
    const never = new Rig();
    never.fail = () => NO_SPACE;
    await expect(never.run()).rejects.toBe(NO_SPACE);
  });

  it('empties all but the segment that is damaged, tells of it, and purges no less', async () => {
    for (const purge of [false, true]) {
      const rig = new Rig();
      rig.fail = (victims) => (victims.includes(7) ? ROTTEN : undefined);
      await expect(rig.run(purge)).rejects.toBe(ROTTEN);
      expect([...rig.segments]).toEqual([7]);
    }
  });

  it('says what a purge could not empty, whoever has found that', async () => {
    const rig = new Rig();
    rig.stuck.add(7);
    await expect(rig.run(true)).rejects.toThrow('may still be in 1 segments');
    expect([...rig.segments]).toEqual([7]);
  });

  it('does not tell that of what was filled meanwhile', async () => {
    const rig = new Rig();
    let checkpoints = 0;
    rig.checkpoint = async (isMoved) => {
      if (checkpoints++ > 0) return;
      expect(isMoved, 'the first one is behind all that is to be emptied').toBe(true);
      rig.segments.add(1000);
      rig.stuck.add(1000); // the checkpoint stands in it
      rig.chainSegment.segment = 1001;
    };
    await rig.run(true);
    expect([...rig.segments]).toEqual([1000]);
  });

  it('goes on where another round has emptied its victims first', async () => {
    const rig = new Rig();
    let isFirst = true;
    rig.fail = (victims) => {
      if (isFirst) for (const each of victims) rig.segments.delete(each);
      isFirst = false;
      return undefined;
    };
    await rig.run(true);
    expect(rig.segments.size).toBe(0);
  });
});
