/** A short run of `npm run streams -- --replicate`: two servers, TLS, load, and kill -9 of either end. SEED replays chance. */

import { afterEach, describe, expect, it } from 'vitest';
import { replicate } from '../../tools/streams/replicate.ts';
import { Cleanup } from '../support/programs.ts';
import { Random, seeds } from '../support/random.ts';

let cleanup = new Cleanup();
afterEach(async () => {
  const done = cleanup;
  cleanup = new Cleanup();
  await done.run();
});

describe('a replica', () => {
  it.each(seeds(1))(
    'shows nothing but whole snapshots of the source, whichever end is killed (SEED=%i)',
    async (seed) => {
      const random = new Random(seed);
      const sizes = { volumeBytes: 64 << 20, setBytes: 16 << 20 };
      const outcome = await replicate(
        { ...sizes, seconds: 20, everySeconds: 1, random },
        cleanup,
        () => undefined,
      );
      expect(outcome.published).toBeGreaterThan(2);
      expect(outcome.kills).toBeGreaterThan(1);
    },
    120_000,
  );
});
