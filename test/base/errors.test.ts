/** Errors of the system as the store's own; a programmer's mistake is none of them. */

import { expect, it } from 'vitest';
import { AssertionError, fromSystemError, StoreError } from '../../src/base/errors.ts';

it('an error of the system gets the code that says what can be done, and one of the store keeps its own', () => {
  const system = (code: string, errno: number): Error => Object.assign(new Error(code), { code, errno });
  const codeOf = (error: unknown): string => fromSystemError(error, 'writing').code;
  expect(codeOf(system('ENOSPC', -28))).toBe('NO_SPACE');
  expect(codeOf(system('EDQUOT', -122))).toBe('NO_SPACE');
  expect(codeOf(system('ENOENT', -2))).toBe('NOT_FOUND');
  expect(codeOf(system('EIO', -5))).toBe('IO');
  expect(codeOf('no error at all')).toBe('IO');
  const own = new StoreError('LOCKED', 'somebody has it');
  expect(fromSystemError(own, 'writing')).toBe(own);
});

it("a programmer's mistake is no error of the system: it is thrown on, whoever asks", () => {
  const mistake = new AssertionError('this cannot be');
  expect(() => fromSystemError(mistake, 'writing')).toThrow(mistake);
});
