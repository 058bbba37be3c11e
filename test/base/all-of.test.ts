/** Parts of a request: an end is the end of all of them. */

import { expect, it } from 'vitest';
import { allOf } from '../../src/base/all-of.ts';

it('parts that fail are told when all have ended, the first in order of the request', async () => {
  const ended: string[] = [];
  const part = async (name: string, turns: number, error?: Error): Promise<void> => {
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
    ended.push(name);
    if (error) throw error;
  };
  await expect(
    allOf([part('slow', 9), part('bad', 1, new Error('one')), part('worse', 4, new Error('two'))]),
  ).rejects.toThrow('one');
  expect(ended).toEqual(['bad', 'worse', 'slow']);
  await allOf([]);
  await allOf([part('alone', 1), part('other', 2)]);
  await expect(allOf([part('alone', 1, new Error('three'))])).rejects.toThrow('three');
});
