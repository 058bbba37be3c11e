/** Sizes as people write and read them. */

import { describe, expect, it } from 'vitest';
import { formatSize, parseSize } from '../../src/cli/size.ts';

const KIB = 1024;
const MIB = KIB ** 2;
const GIB = KIB ** 3;

describe('parseSize', () => {
  it.each([
    ['20G', 20 * GIB],
    ['512MiB', 512 * MIB],
    ['512mib', 512 * MIB],
    ['512M', 512 * MIB],
    ['512MB', 512 * MIB],
    ['1k', KIB],
    ['64T', 64 * KIB ** 4],
    ['4096', 4096],
    ['4096B', 4096],
    ['1000', 1000],
    ['1.5G', 1.5 * GIB],
    ['0.5K', 512],
    ['0.25GiB', GIB / 4],
    ['1.0000T', KIB ** 4],
    ['007M', 7 * MIB],
    ['1024.0', 1024],
  ])('reads %s', (text, bytes) => {
    expect(parseSize(text, '--size')).toBe(bytes);
  });

  it.each([
    ['', /is not a size/],
    ['G', /is not a size/],
    ['20 G', /is not a size/],
    ['20X', /is not a size/],
    ['20GG', /is not a size/],
    ['20Gi', /is not a size/],
    ['1e9', /is not a size/],
    ['0x10', /is not a size/],
    ['1,5G', /is not a size/],
    ['1.G', /is not a size/],
    ['.5G', /is not a size/],
    ['1_000', /is not a size/],
    ['+5G', /is not a size/],
    ['NaN', /is not a size/],
    ['Infinity', /is not a size/],
    ['20G\n20G', /is not a size/],
    ['-20G', /is negative/],
    ['-0', /is negative/],
    ['0', /is zero/],
    ['0G', /is zero/],
    ['0.0T', /is zero/],
    ['1.1G', /whole number of 512-byte sectors/],
    ['0.1K', /whole number of 512-byte sectors/],
    ['1.5', /whole number of 512-byte sectors/],
    ['63.99999999999T', /whole number of 512-byte sectors/],
    ['9'.repeat(400), /absurd/],
    ['9999999999T', /absurd/],
    ['9007199254740992', /absurd/],
  ])('refuses %j', (text, message) => {
    expect(() => parseSize(text, '--size')).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    );
    expect(() => parseSize(text, '--size')).toThrow(/--size/);
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0 B'],
    [512, '512 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [20 * GIB, '20 GiB'],
    [20 * GIB + 1, '20 GiB'],
    [64 * KIB ** 4, '64 TiB'],
    [1000 * 1000, '976.56 KiB'],
  ])('writes %d as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
