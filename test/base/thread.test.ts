/** Threads that give way to others. */

import os from 'node:os';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { giveWay } from '../../src/base/thread.ts';

const { PRIORITY_BELOW_NORMAL, PRIORITY_LOW } = os.constants.priority;

afterEach(() => {
  vi.restoreAllMocks();
});

describe('a thread that gives way', () => {
  it('goes on as it is where priorities cannot be set', () => {
    const refuse = vi.spyOn(os, 'setPriority').mockImplementation(() => {
      throw Object.assign(new Error('not permitted'), { code: 'EPERM' });
    });
    vi.spyOn(os, 'getPriority').mockReturnValue(0);
    giveWay();
    expect(refuse).toHaveBeenCalledTimes(1);
  });

  it('asks for less than it has, and never for more', () => {
    const set = vi.spyOn(os, 'setPriority').mockImplementation(() => undefined);
    const get = vi.spyOn(os, 'getPriority').mockReturnValue(PRIORITY_LOW);
    giveWay();
    expect(set).not.toHaveBeenCalled();
    get.mockReturnValue(0);
    giveWay();
    expect(set).toHaveBeenCalledExactlyOnceWith(0, PRIORITY_BELOW_NORMAL);
  });
});
