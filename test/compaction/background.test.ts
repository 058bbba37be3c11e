/** Compaction beside everything else: who waits for it, and for how long. */

import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Background, type Surroundings } from '../../src/compaction/background.ts';
import type { Compactor, RoundResult } from '../../src/compaction/compactor.ts';
import { ManualClock } from '../support/manual-clock.ts';

const MIB = 1 << 20;

/** Thirty segments of a mebibyte, a third of each alive, or others; a round ends when it is told to. */
class Rig {
  readonly clock = new ManualClock();
  usedBytes: number;
  victims: readonly number[] = [];
  freeBytes = 2 ** 40;
  roundsBegun = 0;
  roomTold = 0;
  endRound: (result: RoundResult) => void = () => undefined;
  failRound: (error: StoreError) => void = () => undefined;
  removeRetired: Compactor['removeRetired'] = async () => undefined;
  readonly background: Background;

  constructor(bytesPerSecond = Number.POSITIVE_INFINITY, segments = 30, liveChunks = 85) {
    this.usedBytes = segments * MIB;
    const usedBytes = (): number => this.usedBytes;
    const compactor = {
      suspect: new Set(),
      comingBytes: 0,
      copiedBytes: 0,
      table: { get: () => ({ bytes: MIB, age: 1 }), zerosBytes: () => 0 },
      isEligible: () => true,
      refresh: async () => undefined,
      removeRetired: (onRoom?: () => void) => this.removeRetired(onRoom),
      close: async () => undefined,
      round: (victims: readonly number[]) => {
        this.roundsBegun += 1;
        this.victims = victims;
        return new Promise<RoundResult>((resolve, reject) => {
          this.endRound = resolve;
          this.failRound = reject;
        });
      },
    } as unknown as Compactor;
    const around: Surroundings = {
      clock: this.clock,
      logger: silentLogger,
      segmentBytes: MIB,
      bytesPerSecond,
      liveChunks: () => liveChunks,
      allLiveChunks: segments * liveChunks,
      get usedBytes() {
        return usedBytes();
      },
      freeBytes: async () => this.freeBytes,
      chainBytes: MIB,
      writtenAppend: 1,
      bytesBehindCheckpoint: 0,
      checkpoint: async () => undefined,
      deleteExpendable: async () => undefined,
      segments: Array.from({ length: segments }, (_, i) => i + 1),
      roomChanged: () => {
        this.roomTold += 1;
      },
    };
    this.background = new Background(compactor, around);
  }

  async rest(): Promise<void> {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('writers', () => {
  it('wait while a round is under way and the log takes too much, and go on when it does not', async () => {
    const rig = new Rig();
    expect(rig.background.hasRoom).toBe(true); // nobody is at work: waiting would be for nothing
    rig.background.consider();
    await rig.rest();
    expect(rig.roundsBegun).toBe(1);
    expect(rig.background.hasRoom).toBe(false);
    let hasGoneOn = false;
    const waiting = rig.background.room().then(() => {
      hasGoneOn = true;
    });
    await rig.rest();
    expect(hasGoneOn).toBe(false);
    rig.usedBytes = 12 * MIB;
    rig.endRound({ victims: 20, movedBytes: 0, writtenBytes: 0, freedBytes: 18 * MIB });
    await waiting;
    expect(rig.roomTold).toBeGreaterThan(0);
    await rig.rest();
    expect(rig.background.state).toMatchObject({ state: 'idle', rounds: 1, freedBytes: 18 * MIB });
    await rig.background.close();
  });
});

describe('the files of a round', () => {
  it('give their room to writers one by one, before all of them are gone and that is on the disk', async () => {
    const rig = new Rig();
    rig.background.consider();
    await rig.rest();
    const waiting = rig.background.room();
    let isSynced: () => void = () => undefined;
    rig.removeRetired = async (onRoom) => {
      rig.usedBytes = 12 * MIB;
      onRoom?.();
      await new Promise<void>((resolve) => {
        isSynced = resolve;
      });
    };
    rig.endRound({ victims: 20, movedBytes: 0, writtenBytes: 0, freedBytes: 18 * MIB });
    await waiting;
    rig.removeRetired = async () => undefined;
    isSynced();
    await rig.background.close();
  });
});

describe('rounds of somebody else', () => {
  it('count as work of compaction for as long as they are lent to', async () => {
    const rig = new Rig();
    const states: string[] = [];
    const steps = async function* (): AsyncGenerator<number> {
      yield 1;
    };
    for await (const _ of rig.background.lending(steps())) states.push(rig.background.state.state);
    states.push(rig.background.state.state);
    expect(states).toEqual(['working', 'idle']);
    await rig.background.close();
  });
});

describe('a round that meets a damaged chunk', () => {
  it('is followed by another one at once; one that fails for something else is not', async () => {
    const rig = new Rig();
    rig.background.consider();
    await rig.rest();
    rig.failRound(new StoreError('CORRUPTION', 'a chunk is rotten'));
    await rig.rest();
    expect(rig.roundsBegun).toBe(2);
    expect(rig.background.state.state).toBe('working');
    rig.failRound(new StoreError('IO', 'the disk does not answer'));
    await rig.rest();
    expect(rig.roundsBegun).toBe(2);
    expect(rig.background.state.state).toBe('failing');
    await rig.background.close();
  });
});

describe('a round that wrote faster than is allowed', () => {
  const wrote = { victims: 4, movedBytes: MIB, writtenBytes: MIB, freedBytes: 2 * MIB };

  it('is short beside writers who have room, but where most of each victim lives', async () => {
    const wellDead = new Rig(Number.POSITIVE_INFINITY, 400, 85);
    wellDead.background.consider();
    await wellDead.rest();
    expect(wellDead.roundsBegun).toBe(1);
    // Two segments of what lives.
    expect(wellDead.victims.length).toBe(6);
    const hardlyDead = new Rig(Number.POSITIVE_INFINITY, 400, 192);
    hardlyDead.background.consider();
    await hardlyDead.rest();
    // Two of such gain half a segment at most, and that is not worth a round.
    expect(hardlyDead.roundsBegun).toBe(1);
    expect(hardlyDead.victims.length).toBe(5);
  });

  it('is followed by a rest, in which nobody waits', async () => {
    const rig = new Rig(2 * MIB);
    rig.usedBytes = 18 * MIB; // compaction is due, and there is room
    rig.background.consider();
    await rig.rest();
    rig.endRound(wrote);
    await rig.rest();
    expect(rig.background.hasRoom).toBe(true);
    for (let ms = 0; ms < 500; ms += 50) {
      expect(rig.roundsBegun, `after ${ms} ms`).toBe(1);
      rig.clock.advance(50);
      await rig.rest();
    }
    expect(rig.roundsBegun).toBe(2);
    rig.usedBytes = 10 * MIB;
    rig.endRound(wrote);
    await rig.background.close();
  });

  it('is followed by the next one at once if writers wait for it', async () => {
    const rig = new Rig(1);
    rig.background.consider();
    await rig.rest();
    rig.endRound(wrote);
    await rig.rest();
    expect(rig.roundsBegun).toBe(2);
    rig.usedBytes = 10 * MIB;
    rig.endRound(wrote);
    await rig.background.close();
  });

  it('is followed by the next one when somebody else has filled the file system', async () => {
    const rig = new Rig(1);
    rig.usedBytes = 18 * MIB;
    rig.background.consider();
    await rig.rest();
    rig.endRound(wrote);
    await rig.rest();
    rig.freeBytes = 6 * MIB;
    rig.clock.advance(50);
    await rig.rest();
    expect(rig.roundsBegun).toBe(2);
    rig.usedBytes = 10 * MIB;
    rig.freeBytes = 2 ** 40;
    rig.endRound(wrote);
    await rig.background.close();
  });

  it('rests no longer than until writers need room, or the store is closed', async () => {
    const rig = new Rig(1);
    rig.usedBytes = 18 * MIB;
    rig.background.consider();
    await rig.rest();
    rig.endRound(wrote);
    await rig.rest();
    rig.usedBytes = 30 * MIB;
    rig.clock.advance(50);
    await rig.rest();
    expect(rig.roundsBegun).toBe(2);
    rig.usedBytes = 18 * MIB;
    rig.endRound(wrote);
    await rig.rest();
    const closed = rig.background.close();
    rig.clock.advance(50);
    await closed;
  });
});
