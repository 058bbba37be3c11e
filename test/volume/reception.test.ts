/** Which position is kept of a stream that is received, when frames fail, and while time passes. */

import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import type { StreamHead } from '../../src/delta/head.ts';
import type { Frame } from '../../src/delta/stream-reader.ts';
import { Reception, type ReceiveSteps } from '../../src/volume/reception.ts';

const MIB = 2 ** 20;
const HEAD = { target: { uuid: 'target', size: 100 * MIB }, base: null } as unknown as StreamHead;

function frame(end: number): Frame {
  return {
    kind: 'changes',
    changes: { body: Buffer.alloc(8, end / MIB), end, dataBytes: MIB },
  } as unknown as Frame;
}

class Steps implements ReceiveSteps {
  readonly kept: number[] = [];
  /** Mebibytes up to which frames succeed; the earlier ones last. */
  roomMib = Number.POSITIVE_INFINITY;

  begin(): Promise<{ state: 'begun'; session: string; position: number }> {
    return Promise.resolve({ state: 'begun', session: 'session', position: 0 });
  }

  async apply(_session: string, body: Buffer): Promise<void> {
    await sleep(20 - 2 * (body[0]! % 8));
    if (body[0]! > this.roomMib) throw new StoreError('NO_SPACE', 'the store is full');
  }

  advance(_session: string, position: number): Promise<void> {
    this.kept.push(position);
    return Promise.resolve();
  }

  publish(): Promise<string> {
    return Promise.resolve('disk@s');
  }
}

describe('what has come of a stream', () => {
  it('is kept up to the first frame that failed', async () => {
    const steps = new Steps();
    steps.roomMib = 21;
    const reception = new Reception(steps, 'disk');
    await reception.take({ kind: 'head', head: HEAD } as Frame);
    const all = async (): Promise<void> => {
      for (let mib = 1; mib <= 40; mib++) await reception.take(frame(mib * MIB));
    };
    await expect(all()).rejects.toMatchObject({ code: 'NO_SPACE' });
    await expect(reception.keepPosition()).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect(reception.keptPosition).toBe(21 * MIB);
    expect(steps.kept).toEqual([21 * MIB]);
  });

  it('is kept every second, however little it is', async () => {
    const steps = new Steps();
    const reception = new Reception(steps, 'disk');
    await reception.take({ kind: 'head', head: HEAD } as Frame);
    for (let mib = 1; mib <= 14; mib++) {
      await reception.take(frame(mib * MIB));
      await sleep(200);
    }
    expect(steps.kept.length).toBeGreaterThanOrEqual(1);
    expect(steps.kept.length).toBeLessThanOrEqual(4);
    expect((await reception.finish()).name).toBe('disk@s');
  });
});
