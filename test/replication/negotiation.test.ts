/** What is sent, and from what: every case that who receives may find. */

import { describe, expect, it } from 'vitest';
import { choose, freeName, type Holdings, type Offer } from '../../src/replication/negotiation.ts';
import type { ReceiveSummary, VersionSummary } from '../../src/volume/summary.ts';

const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const [VOLUME, SIZE] = [uuid(99), 4096];

function version(name: string, origin: string, size = SIZE): VersionSummary {
  const kind = name.includes('@') ? 'snapshot' : 'volume';
  const plain = { parent: null, replica: true, automatic: false, madeBy: null, priority: 0, holds: [] };
  return { name, kind, uuid: uuid(1000), origin, size, created: '2026-01-01T00:00:00Z', ...plain };
}

/** Snapshots 1 to 5, of which the newest is offered. */
const OFFER: Offer = {
  volume: { uuid: VOLUME, name: 'disk' },
  as: 'copy',
  target: { uuid: uuid(5), name: 'five' },
  have: [1, 2, 3, 4, 5].map((n) => [uuid(n), SIZE] as const),
};
const NOTHING: Holdings = { volume: undefined, snapshots: [], others: [], receives: [] };
const has = (...numbers: number[]): Holdings => ({
  ...NOTHING,
  volume: version('copy', VOLUME),
  snapshots: numbers.map((n) => version(`copy@${n}`, uuid(n))),
});
const receive = (target: number, base: number | null, name = 'r'): ReceiveSummary => ({
  receive: name,
  name: 'copy@x',
  target: uuid(target),
  base: base === null ? null : uuid(base),
  size: SIZE,
  position: 512,
  began: '',
  token: '',
  volumeGone: false,
});

describe('who receives', () => {
  it('takes all of it where there is nothing', () => {
    expect(choose(OFFER, NOTHING)).toMatchObject({ target: uuid(5), base: null, useless: [] });
  });

  it('takes what differs from the newest that both have, whatever else there is', () => {
    expect(choose(OFFER, has(1, 3, 77))).toMatchObject({ target: uuid(5), base: uuid(3) });
    expect(choose(OFFER, has(3, 1))).toMatchObject({ base: uuid(3) });
  });

  it('does not take one of another size for the same', () => {
    const holdings = has(1);
    const other = { ...holdings, snapshots: [...holdings.snapshots, version('copy@3', uuid(3), 8192)] };
    expect(choose(OFFER, other)).toMatchObject({ base: uuid(1) });
  });

  it('says what it has, if that is as new or newer', () => {
    expect(choose(OFFER, has(1, 5))).toMatchObject({ there: uuid(5) });
    expect(choose({ ...OFFER, target: { uuid: uuid(2), name: 'two' } }, has(4))).toMatchObject({
      there: uuid(4),
    });
  });

  it('goes on with what it has begun, before anything newer', () => {
    const begun = { ...has(1), receives: [receive(3, 1)] };
    expect(choose(OFFER, begun)).toMatchObject({ target: uuid(3), base: uuid(1), useless: [] });
    const whole = { ...NOTHING, receives: [receive(2, null)] };
    expect(choose(OFFER, whole)).toMatchObject({ target: uuid(2), base: null });
  });

  it('goes on with nothing that is old, gone, or of a base that is', () => {
    const of = (...receives: ReceiveSummary[]): Holdings => ({ ...has(3), receives });
    for (const each of [receive(2, 1), receive(77, 3), receive(5, 77), receive(5, null)])
      expect(choose(OFFER, of(each))).toMatchObject({ target: uuid(5), base: uuid(3), useless: ['r'] });
    const orphan = { ...receive(5, 3), volumeGone: true };
    const begunAnew = { ...NOTHING, receives: [orphan] };
    expect(choose(OFFER, begunAnew)).toMatchObject({ target: uuid(5), base: null, useless: ['r'] });
    const two = of(receive(4, 3, 'first'), receive(5, 3, 'second'));
    expect(choose(OFFER, two)).toMatchObject({ target: uuid(4), useless: ['second'] });
  });

  it('begins a new volume below what another one has, but not with the same', () => {
    const others = [version('disk@2', uuid(2)), version('disk@5', uuid(5))];
    expect(choose(OFFER, { ...NOTHING, others })).toMatchObject({ target: uuid(5), base: uuid(2) });
  });

  it('refuses where nothing is in common', () => {
    expect(() => choose(OFFER, has(77))).toThrow(/copy has no snapshot that disk has too/);
  });

  it('gives a name that is free', () => {
    expect(freeName(OFFER.target, [version('copy@four', uuid(4))])).toBe('five');
    expect(freeName(OFFER.target, [version('copy@five', uuid(4))])).toBe('five-00000000');
  });
});
