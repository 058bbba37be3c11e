/** Which lists are remembered, and that none is taken for another. */

import { describe, expect, it } from 'vitest';
import { ListCache, type StatedList } from '../../src/index/list-cache.ts';

const list = (more: Partial<StatedList> = {}): StatedList => ({
  tree: 1,
  region: 7,
  generation: 3,
  checksum: 5,
  ...more,
});

describe('the lists that were read last', () => {
  it('are known by tree, region, generation and checksum', () => {
    const cache = new ListCache();
    const value = Buffer.from('a list');
    cache.put(list(), value);
    expect(cache.get(list())).toBe(value);
    for (const other of [
      { tree: 2 },
      { tree: 1 + 2 ** 26 },
      { region: 8 },
      { generation: 4 },
      { checksum: 6 },
    ])
      expect(cache.get(list(other))).toBeUndefined();
    const newer = Buffer.from('written again');
    cache.put(list({ generation: 4 }), newer);
    expect(cache.get(list())).toBeUndefined();
    expect(cache.get(list({ generation: 4 }))).toBe(newer);
  });

  it('go when they are too many or too long, those first that were used longest ago', () => {
    const cache = new ListCache();
    for (let region = 0; region < 64; region++) cache.put(list({ region }), Buffer.alloc(10));
    cache.get(list({ region: 0 }));
    cache.put(list({ region: 64 }), Buffer.alloc(10));
    expect(cache.get(list({ region: 0 }))).toBeDefined();
    expect(cache.get(list({ region: 1 }))).toBeUndefined();
    for (let region = 100; region < 106; region++) cache.put(list({ region }), Buffer.alloc(200 << 10));
    expect(cache.get(list({ region: 0 }))).toBeUndefined();
    expect([100, 101, 105].map((region) => cache.get(list({ region })) !== undefined)).toEqual([
      false,
      true,
      true,
    ]);
    cache.put(list({ region: 200 }), Buffer.alloc(2 << 20));
    expect(cache.get(list({ region: 200 }))).toBeUndefined();
    expect(cache.get(list({ region: 105 }))).toBeDefined();
  });
});
