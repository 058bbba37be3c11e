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

  it('wait for a call to end while four are under way, and are then read in one', async () => {
    const ends: (() => void)[] = [];
    const calls: string[][] = [];
    const rows = new GatheredRows({
      getMany: (asked) => {
        calls.push(asked.map(String));
        return new Promise((resolve) => ends.push(() => resolve(asked)));
      },
    });
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const answers: string[] = [];
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) {
      void rows.getMany(keys(name)).then((found) => answers.push(...texts(found).map(String)));
      await turn();
    }
    expect(calls).toEqual([['a'], ['b'], ['c'], ['d']]);
    ends[2]!();
    ends[0]!();
    await turn();
    expect(calls.slice(4)).toEqual([['e', 'f', 'g']]);
    for (const end of ends) end();
    await turn();
    expect(answers.sort()).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g']);
    expect(calls.length).toBe(5);
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
