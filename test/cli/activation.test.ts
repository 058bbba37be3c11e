/** What `serve` makes of the variables of socket activation. test/system starts it with sockets. */

import { describe, expect, it } from 'vitest';
import { takeInheritedFds } from '../../src/cli/activation.ts';

describe('the variables of socket activation', () => {
  const taken = (environment: NodeJS.ProcessEnv): unknown => takeInheritedFds(environment, 4711);

  it('say which descriptors there are, by name, and are gone afterwards', () => {
    const environment = { LISTEN_PID: '4711', LISTEN_FDS: '0', LISTEN_FDNAMES: '', OTHER: 'stays' };
    expect(taken(environment)).toEqual([]);
    expect(environment).toEqual({ OTHER: 'stays' });
  });

  it.each([
    ['there are none', {}],
    ['nobody is meant', { LISTEN_FDS: '1' }],
    ['another process is meant', { LISTEN_FDS: '1', LISTEN_PID: '4712' }],
    ['it is no number of a process', { LISTEN_FDS: '1', LISTEN_PID: '04711' }],
    ['nothing is handed over', { LISTEN_PID: '4711' }],
  ])('hand over nothing where %s', (_where, variables: NodeJS.ProcessEnv) => {
    const environment: NodeJS.ProcessEnv = { ...variables };
    expect(taken(environment)).toEqual([]);
    expect(environment).toEqual({});
  });

  it.each(['', '-1', 'two', '1.5', '1025', '99999'])('with %j sockets are refused', (count) => {
    expect(() => taken({ LISTEN_FDS: count, LISTEN_PID: '4711' })).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('LISTEN_FDS'),
      }),
    );
  });
});
