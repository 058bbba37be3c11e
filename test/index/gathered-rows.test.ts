/** Rows that many requests of one turn want come from LevelDB in one call, and everybody gets their own. */

import { describe, expect, it } from 'vitest';
import { GatheredRows } from '../../src/index/gathered-rows.ts';

/** A source that has every key but `missing` as its own row, and notes what it was asked for at once. */
class NotingSource {
  readonly calls: string[][] = [];
  failure: Error | undefined;

  getMany(keys: Buffer[]): Promise<(Buffer | undefined)[]> {
    this.calls.push(keys.map(String));
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return Promise.resolve(
      keys.map((key) => (String(key) === 'missing' ? undefined : Buffer.from(`row of ${String(key)}`))),
    );
  }
}

const keys = (...names: string[]): Buffer[] => names.map((name) => Buffer.from(name));
const texts = (rows: (Buffer | undefined)[]): (string | undefined)[] => rows.map((row) => row?.toString());

describe('gathered rows', () => {
  it('are read in one call for all who ask in a turn, and given to each by their own keys', async () => {
    const source = new NotingSource();
    const rows = new GatheredRows(source);
    const late = Promise.resolve().then(() => rows.getMany(keys('d')));
    const all = await Promise.all([rows.getMany(keys('a', 'missing')), rows.getMany(keys('b')), late]);
    expect(all.map(texts)).toEqual([['row of a', undefined], ['row of b'], ['row of d']]);
    expect(source.calls).toEqual([['a', 'missing', 'b', 'd']]);
  });

  it('are read anew for who asks when the call is under way', async () => {
    const source = new NotingSource();
    const rows = new GatheredRows(source);
    await rows.getMany(keys('a'));
    await rows.getMany(keys('a'));
    expect(source.calls).toEqual([['a'], ['a']]);
  });

  it('fail for all who asked, and for nobody after them', async () => {
    const source = new NotingSource();
    const rows = new GatheredRows(source);
    source.failure = new Error('the disk is gone');
    const asked = [rows.getMany(keys('a')), rows.getMany(keys('b'))];
    for (const { status } of await Promise.allSettled(asked)) expect(status).toBe('rejected');
    source.failure = undefined;
    expect(texts(await rows.getMany(keys('c')))).toEqual(['row of c']);
  });

  it('are an answer where a source throws before it promises anything', async () => {
    const rows = new GatheredRows({
      getMany: () => {
        throw new Error('closed');
      },
    });
    await expect(rows.getMany(keys('a'))).rejects.toThrow('closed');
  });
});
