/** A store that an earlier program made: this one must read it. test/fixtures/format-1.ts says how it is made. */

import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Logger } from '../../src/base/logger.ts';
import { Store } from '../../src/volume/store.ts';
import { CONTENTS, makeFixture, unpackFixture } from '../fixtures/format-1.ts';
import { damageIn, onStore, read, scratchDirectory, write } from '../support/stores.ts';

let directory: string;

beforeEach(() => {
  directory = scratchDirectory();
});

afterEach(() => {
  fs.rmSync(directory, { recursive: true, force: true });
});

/** Opens the store, collecting what it warns of. */
async function open(warnings: string[]): Promise<Store> {
  const note = (_: object, message: string): void => {
    warnings.push(message);
  };
  const logger: Logger = { debug: () => undefined, info: note, warn: note, error: note };
  return await Store.open(directory, { logger });
}

async function readAll(store: Store): Promise<void> {
  for (const [name, expected] of CONTENTS) {
    const found = await onStore(store, name, (device) => read(device, 0, device.sizeBytes));
    expect(found.equals(expected), name).toBe(true);
  }
}

describe('the frozen store of format revision 1', () => {
  const make = process.env['MAKE_FIXTURE'] === '1' ? it : undefined;
  make?.('is made', async () => {
    await makeFixture(directory);
  });

  for (const withIndex of [false, true]) {
    const how = withIndex ? 'with its index' : 'without an index';
    it(`${how}: is whole, opens, and reads right in all versions`, async () => {
      unpackFixture(directory, withIndex);
      expect(await damageIn(Store.check(directory))).toEqual([]);
      const warnings: string[] = [];
      const store = await open(warnings);
      expect(
        store
          .list()
          .map(({ name }) => name)
          .sort(),
      ).toEqual([...CONTENTS.keys()].sort());
      await readAll(store);
      expect(store.show('copy').parent).toBe('copy@mid');
      expect(store.show('copy@mid').parent).toBe('disk@seed');
      await store.close();
      // The index is of an earlier revision.
      const other = 'the index is of another revision and is made anew from the log';
      expect(warnings).toEqual([...(withIndex ? [other] : []), 'the index was made anew from the log']);
      expect(await damageIn(Store.check(directory))).toEqual([]);
    });
  }

  it('can be written to, and read again', async () => {
    unpackFixture(directory, true);
    const store = await open([]);
    const bytes = Buffer.alloc(8192, 'new');
    await onStore(store, 'copy', (device) => write(device, 4096, bytes));
    await store.snapshot(['copy@new']);
    await store.close();
    const again = await open([]);
    for (const name of ['copy', 'copy@new']) {
      const found = await onStore(again, name, (device) => read(device, 0, device.sizeBytes));
      const expected = Buffer.from(CONTENTS.get('copy')!);
      bytes.copy(expected, 4096);
      expect(found.equals(expected), name).toBe(true);
    }
    expect(
      (await onStore(again, 'disk', (device) => read(device, 0, 1 << 20))).equals(CONTENTS.get('disk')!),
    ).toBe(true);
    await again.close();
    expect(await damageIn(Store.check(directory))).toEqual([]);
  });
});
