/** Two stores and more over loopback: pushed, pulled, in a chain, to several targets; what is held, and what is deleted. */

import { afterEach, describe, expect, it } from 'vitest';
import { Random, seeds } from '../support/random.ts';
import { Site } from './site.ts';

const SIZE = 1 << 20;
const sites: Site[] = [];

async function site(): Promise<Site> {
  const made = await Site.make();
  sites.push(made);
  return made;
}

afterEach(async () => {
  for (const each of sites.splice(0)) await each.remove();
});

/** A volume `disk` with random bytes in it. */
async function source(random: Random): Promise<Site> {
  const made = await site();
  await made.store.createVolume('disk', SIZE);
  await scribble(made, random);
  return made;
}

async function scribble(at: Site, random: Random): Promise<void> {
  await at.write('disk', 512 * random.below(1000), random.bytes(512 * random.between(1, 1000)));
}

/** The newest snapshot that is there, in full. */
async function newest(at: Site, volume = 'disk'): Promise<Buffer> {
  return await at.contents(`${volume}@${at.snapshots(volume).at(-1)}`);
}

describe('a feed', () => {
  const random = new Random(seeds(1)[0]!);

  it('pushes a snapshot that it has made, and then what differs', async () => {
    const [from, to] = [await source(random), await site()];
    const id = await from.push('disk', to);
    for (let round = 0; round < 3; round++) {
      const before = await from.contents('disk');
      const { error, last } = await from.run(id);
      expect(error).toBeNull();
      expect(last!.name).toMatch(/^repl-\d{8}T\d{6}Z/);
      expect((await newest(to)).equals(before)).toBe(true);
      expect((await to.contents('disk')).equals(before)).toBe(true);
      await scribble(from, random);
    }
    expect(to.store.show('disk').replica).toBe(true);
  });
});
