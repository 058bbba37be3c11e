/** A log without room: who is refused, who goes on, and what is left for those. */

import { describe, expect, it } from 'vitest';
import { ENTRY_ZEROS } from '../../src/log/entries.ts';
import { CHUNK, LogRig, MIB, readLog, segmentFiles } from './rig.ts';

const isCode = (code: string): unknown => expect.objectContaining({ code });
const BIG = 64 * CHUNK;

/** Fills the log until it is refused; answers how many writes of 256 KiB it took. */
async function fill(rig: LogRig): Promise<number> {
  for (let count = 0; ; count++) {
    const error: unknown = await rig.write(count * 64, Buffer.alloc(BIG, count)).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (error === undefined) continue;
    expect(error).toEqual(isCode('NO_SPACE'));
    return count;
  }
}

describe('a full store', () => {
  it('refuses with NO_SPACE, leaves two segments, and is neither poisoned nor unable to close', async () => {
    const rig = await LogRig.begin({ capacityBytes: 6 * MIB });
    expect(await fill(rig)).toBe(12);
    expect(await segmentFiles(rig.storage)).toEqual([1, 2, 3, 4]);
    await rig.log.flush();
    rig.clock.advance(100);
    await rig.rest();
    expect(rig.log.poison).toBeUndefined();
    rig.storage.crash();
    // Even now the closing record had room: nothing is unproven.
    const { tail, sequences } = await readLog(rig.storage);
    expect(tail.closedCleanly).toBe(true);
    expect(sequences).toHaveLength(12);
  });

  it('takes trims into one of those, and no data behind them', async () => {
    const rig = await LogRig.begin({ capacityBytes: 4 * MIB });
    await fill(rig);
    while ((await segmentFiles(rig.storage)).length < 3) await rig.zeros(0, 1);
    const results = await Promise.allSettled([
      rig.zeros(0, 1),
      rig.write(0, Buffer.alloc(CHUNK)),
      rig.zeros(1, 1),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect((results[1] as PromiseRejectedResult).reason).toEqual(isCode('NO_SPACE'));
    await rig.log.close();
  });

  it('takes changes into the segment that a catalog has begun, though compaction has all the rest, and no writes', async () => {
    const rig = await LogRig.begin({ capacityBytes: 6 * MIB });
    await fill(rig);
    const before = (await segmentFiles(rig.storage)).length;
    while ((await segmentFiles(rig.storage)).length === before) await rig.catalog('x'.repeat(60_000));
    rig.supply.usedBytes = 8 * MIB;
    await rig.change('x');
    await expect(rig.write(0, Buffer.alloc(CHUNK))).rejects.toEqual(isCode('NO_SPACE'));
    await expect(rig.zeros(0, 1)).rejects.toEqual(isCode('NO_SPACE'));
    await rig.change('y');
    rig.supply.usedBytes = 5 * MIB;
    await rig.log.close();
  });

  it('takes what is small for as long as it fits, and always has room to close', async () => {
    const rig = await LogRig.begin({ capacityBytes: 6 * MIB });
    await fill(rig);
    for (let trims = 0; ; trims++) {
      const result = await rig.zeros(0, 1).catch(() => 'full');
      if (trims % 7 === 0) await rig.log.flush();
      if (result === 'full') {
        expect(trims).toBeGreaterThan(50);
        break;
      }
    }
    await rig.log.close();
    expect(await segmentFiles(rig.storage)).toEqual([1, 2, 3, 4, 5]);
    expect((await readLog(rig.storage)).tail.closedCleanly).toBe(true);
  });

  it('lets what makes room go two segments beyond the capacity, and no write', async () => {
    const rig = await LogRig.begin({ capacityBytes: 6 * MIB });
    await fill(rig);
    const text = 'x'.repeat(60_000);
    while ((await segmentFiles(rig.storage)).length < 7) await rig.change(text);
    while (!((await rig.change(text).catch((error: unknown) => error)) instanceof Error));
    expect(await rig.supply.roomBytes()).toBe(MIB);
    while ((await segmentFiles(rig.storage)).length < 8) await rig.catalog(text);
    expect(await rig.supply.roomBytes()).toBe(0);
    while (!((await rig.catalog(text).catch((error: unknown) => error)) instanceof Error));
    await expect(rig.zeros(0, 1)).rejects.toEqual(isCode('NO_SPACE'));
    expect(await segmentFiles(rig.storage)).toHaveLength(8);
    await rig.log.close();
  });

  it('lets writes wait while room is coming, and refuses a change at once: who makes room may need its turn', async () => {
    const rig = await LogRig.begin({ capacityBytes: 4 * MIB });
    await fill(rig);
    let isTold = false;
    const change = (): Promise<unknown> => rig.change('x'.repeat(60_000)).catch((error: unknown) => error);
    rig.supply.isRoomComing = () => true;
    let refused: unknown;
    while (!(refused instanceof Error)) refused = await change();
    expect(refused).toEqual(isCode('NO_SPACE'));
    const write = rig.write(0, Buffer.alloc(BIG)).finally(() => {
      isTold = true;
    });
    const trim = rig.zeros(0, 1);
    expect(await change()).toEqual(isCode('NO_SPACE'));
    await rig.rest();
    expect(isTold).toBe(false);
    rig.supply.removed(4 * MIB);
    rig.log.roomChanged();
    await Promise.all([write, trim]);
    expect(await change()).not.toBeInstanceOf(Error);
    await rig.log.close();
  });

  it('puts what was set aside behind the record that is being written when room comes: each is told once', async () => {
    const rig = await LogRig.begin({ capacityBytes: 4 * MIB });
    await fill(rig);
    rig.supply.isRoomComing = () => true;
    const told: string[] = [];
    const note = (what: string) => (): void => void told.push(what);
    void rig.write(0, Buffer.alloc(BIG)).then(note('write'));
    await rig.rest();
    let goOn: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let isHeld = false;
    rig.storage.gate = async ({ operation }) => {
      if (operation !== 'write') return;
      isHeld = true;
      await held;
    };
    void rig.zeros(7, 1).then(note('trim'));
    while (!isHeld) await rig.rest(1);
    rig.supply.removed(3 * MIB);
    rig.log.roomChanged();
    rig.storage.gate = undefined;
    goOn();
    await rig.rest();
    expect(told).toEqual(['trim', 'write']);
    await rig.log.close();
    const { entries } = await readLog(rig.storage);
    expect(entries.filter(({ kind }) => kind === ENTRY_ZEROS)).toHaveLength(1);
  });

  it('has settled what was asked before once that is told, though what came later has overtaken it', async () => {
    const rig = await LogRig.begin({ capacityBytes: 4 * MIB });
    await fill(rig);
    rig.supply.isRoomComing = () => true;
    const writes = [rig.write(0, Buffer.alloc(BIG)), rig.write(64, Buffer.alloc(BIG))];
    let hasSettled = false;
    const settled = rig.log.settled().then(() => {
      hasSettled = true;
    });
    for (let i = 0; i < 4; i++) await rig.zeros(i, 1);
    expect(hasSettled).toBe(false);
    // Back in the queue, in front of what has come since.
    const trims = [rig.zeros(0, 1), rig.zeros(1, 1)];
    rig.supply.removed(3 * MIB);
    rig.log.roomChanged();
    await writes[0];
    await Promise.all([...writes, settled]);
    await Promise.all(trims);
    await rig.log.close();
  });

  it('heals when there is space again, at the next write', async () => {
    const rig = await LogRig.begin();
    rig.storage.fail('allocate', { code: 'NO_SPACE', sticky: true, after: 2 });
    const count = await fill(rig);
    await rig.rest();
    await expect(rig.write(0, Buffer.alloc(BIG))).rejects.toEqual(isCode('NO_SPACE'));
    await rig.rest();
    rig.storage.clearFailures();
    await rig.write(0, Buffer.alloc(BIG));
    await rig.log.close();
    const { sequences, tail } = await readLog(rig.storage);
    expect(sequences).toHaveLength(count + 1);
    expect(tail.damage).toEqual([]);
  });

  it('a failure that made the segment ahead fail is not told to a write that comes when it is over', async () => {
    const rig = await LogRig.begin();
    await rig.write(0);
    rig.storage.fail('create', { code: 'NO_SPACE', after: 1 });
    // Rolls into the second segment; the third is made ahead, and that fails.
    for (let i = 0; i < 4; i++) await rig.write(i * 64, Buffer.alloc(BIG, i));
    await rig.rest();
    for (let i = 0; i < 4; i++) await rig.write(i * 64, Buffer.alloc(BIG, i));
    expect((await segmentFiles(rig.storage)).length).toBeGreaterThanOrEqual(3);
  });
});
