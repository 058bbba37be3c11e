/** Who gets of the shared budget first when some of it comes back. */

import { describe, expect, it } from 'vitest';
import { Budget, ServerBudget } from '../../src/nbd/budget.ts';

const MIB = 2 ** 20;

describe('of those who wait for memory', () => {
  it('who has moved as much before comes first, then who reads, then in the order in which they came', () => {
    const server = new ServerBudget(16 * MIB, 1, () => undefined);
    const connection = (): Budget => new Budget(16 * MIB, server);
    const holder = connection();
    holder.take(15 * MIB);
    const order: string[] = [];
    const wait = (name: string, budget: Budget, bytes: number, hasPayload: boolean): void =>
      budget.wait(bytes, () => void order.push(name), hasPayload);
    const known = connection();
    known.take(64 << 10);
    known.give(64 << 10);
    wait('claims', connection(), 8 * MIB, true);
    wait('claims too', connection(), 8 * MIB, true);
    wait('reads', connection(), 8 * MIB, false);
    wait('has moved less', known, 8 * MIB, true);
    const proven = connection();
    for (let i = 0; i < 200; i++) {
      proven.take(64 << 10);
      proven.give(64 << 10);
    }
    wait('has moved as much', proven, 8 * MIB, true);
    holder.give(15 * MIB);
    expect(order).toEqual(['has moved as much', 'reads', 'claims', 'claims too', 'has moved less']);
  });

  it('nobody is passed by for ever', () => {
    const server = new ServerBudget(16 * MIB, 1, () => undefined);
    const patient = new Budget(16 * MIB, server);
    const known = new Budget(16 * MIB, server);
    known.take(MIB);
    known.give(MIB);
    let isServed = false;
    let passed = 0;
    for (; !isServed && passed < 10_000; passed++) {
      const holder = new Budget(16 * MIB, server);
      holder.take(15 * MIB);
      let isFree = true;
      const take = (): void => void (isFree = false);
      known.take(0);
      known.wait(MIB, take, true);
      patient.wait(8 * MIB, () => void (isServed = isFree), true);
      holder.give(15 * MIB);
    }
    expect(passed).toBeGreaterThan(100);
    expect(passed).toBeLessThan(3000);
  });
});
