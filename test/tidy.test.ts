/** The rules of the house, as a test: floors, lengths, headers, names, and an ARCHITECTURE.md that stays true. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { FINDINGS } from '../src/check/finding.ts';

const ROOT = path.resolve(import.meta.dirname, '..');
/** Rooms by floor; a room imports from floors below and from itself. */
const FLOORS: Record<string, number> = {
  base: 0,
  log: 1,
  index: 1,
  delta: 1,
  schedule: 1,
  tls: 1,
  compaction: 2,
  check: 2,
  volume: 3,
  nbd: 4,
  replication: 4,
  server: 4,
  repair: 4,
  cli: 5,
  tools: 6,
};
/** npm packages that a room may import, types apart. */
const PACKAGES: Record<string, string[]> = {
  base: ['@node-rs/crc32', 'fs-native-extensions', 'koffi'],
  log: [],
  index: ['abstract-level'],
  delta: [],
  schedule: ['croner'],
  tls: [],
  compaction: [],
  check: [],
  volume: ['level'],
  nbd: [],
  replication: [],
  server: ['fastify', 'prom-client'],
  repair: [],
  cli: ['commander', 'pino'],
  tools: ['commander'],
};
const LINES_MAX = 500;
const BANNED: [pattern: RegExp, why: string, except: RegExp][] = [
  [/\bany\b(?=[\]>;,)| ])(?<=: any|<any|as any)/, '`any` hides mistakes', /^$/],
  [/\bconsole\./, 'the doors print through output files, the rest through the logger', /^(src\/cli|tools)\//],
  [
    /Date\.now|Math\.random|new Date\(\)/,
    'time and chance are passed in',
    /^(src\/(base\/clock|cli|server|nbd|tls)|tools)/,
  ],
  [/BigInt\(|\dn\b/, 'no BigInt: numbers stay below 2^53', /^tools\//],
  [/Buffer\.concat/, 'payload is never copied together', /^(src\/(cli|server)|tools)\//],
  [/@ts-ignore|@ts-expect-error|oxlint-disable|biome-ignore/, 'no rule is switched off', /^$/],
];

function sources(...folders: string[]): string[] {
  const found: string[] = [];
  for (const folder of folders) {
    for (const entry of fs.readdirSync(path.join(ROOT, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !entry.name.endsWith('.ts')) continue;
      found.push(path.relative(ROOT, path.join(entry.parentPath, entry.name)));
    }
  }
  return found.sort();
}

const text = (file: string): string => fs.readFileSync(path.join(ROOT, file), 'utf8');
const roomOf = (file: string): string => (file.startsWith('tools/') ? 'tools' : file.split('/')[1]!);

function importsOf(file: string, source = text(file)): string[] {
  const pattern = /(?:^|[;}\s])(?:from|import)\s*\(?\s*'([^']+)'/gm;

  return [...source.matchAll(pattern)].map((match) => match[1]!);
}

const code = sources('src', 'tools');
const everything = [...code, ...sources('test')];

describe('the house', () => {
  it('has found its files', () => {
    expect(code.length).toBeGreaterThan(40);
  });

  it('imports go down only, and rooms of one floor do not know each other', () => {
    const wrong: string[] = [];
    for (const file of code) {
      const room = roomOf(file);
      for (const target of importsOf(file)) {
        if (!target.startsWith('.')) continue;
        const to = roomOf(path.relative(ROOT, path.resolve(ROOT, path.dirname(file), target)));
        if (to !== room && FLOORS[to]! >= FLOORS[room]!) wrong.push(`${file} imports ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('rooms use only their own packages', () => {
    const wrong: string[] = [];
    for (const file of code) {
      for (const target of importsOf(file, text(file).replace(/import type .*/g, ''))) {
        if (target.startsWith('.') || target.startsWith('node:')) continue;
        if (!PACKAGES[roomOf(file)]!.some((name) => target === name)) wrong.push(`${file} imports ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it(`no file is longer than ${LINES_MAX} lines, and each opens with what it is`, () => {
    const wrong: string[] = [];
    for (const file of everything) {
      const content = text(file);
      if (content.split('\n').length > LINES_MAX) wrong.push(`${file} is too long`);
      if (!/^(#!.*\n)?\/[*/]/.test(content) && !file.endsWith('.d.ts')) wrong.push(`${file} has no header`);
    }
    expect(wrong).toEqual([]);
  });

  it('nothing banned is used', () => {
    const wrong: string[] = [];
    for (const file of code) {
      const lines = text(file).split('\n');
      for (const [pattern, why, except] of BANNED) {
        if (except.test(file)) continue;
        lines.forEach((line, i) => {
          if (!/^\s*(\*|\/\/|\/\*)/.test(line) && pattern.test(line)) wrong.push(`${file}:${i + 1}: ${why}`);
        });
      }
    }
    expect(wrong).toEqual([]);
  });

  it('files have names of the field', () => {
    const wrong = code.filter((file) => /(util|manager|helper|info|data)s?[.-]/.test(path.basename(file)));
    expect(wrong).toEqual([]);
  });

  it('every source file is imported by another, or is a door', () => {
    const imported = new Set<string>();
    for (const file of everything) {
      for (const target of importsOf(file)) {
        if (target.startsWith('.'))
          imported.add(path.relative(ROOT, path.resolve(ROOT, path.dirname(file), target)));
      }
    }
    // What a program loads by its path is a door too.
    const doors =
      /^(src\/(cli\/(main|start)|compaction\/move-worker|check\/audit-worker)|tools\/[a-z]+(\/(main|loop-watch))?)\.ts$|\.d\.ts$/;
    expect(code.filter((file) => !doors.test(file) && !imported.has(file))).toEqual([]);
  });

  it('ARCHITECTURE.md names every file and every error code', () => {
    const architecture = text('ARCHITECTURE.md');
    const missing = sources('src').filter((file) => !architecture.includes(path.basename(file)));
    expect(missing).toEqual([]);
    const codes = [...text('src/base/errors.ts').matchAll(/\| '([A-Z_]+)'/g)].map((match) => match[1]!);
    expect(codes.length).toBeGreaterThan(8);
    expect(codes.filter((each) => !architecture.includes(`\`${each}\``))).toEqual([]);
  });

  it('ARCHITECTURE.md says of every finding what it is, and whether it is a note', () => {
    const rows = [...text('ARCHITECTURE.md').matchAll(/^\| `([A-Z_]+)` \| (note|damage) \|/gm)];
    const told = rows.map(([, code, severity]) => [code!, severity!]);
    expect(told).toEqual(Object.entries(FINDINGS));
  });

  it('no text names a path of one machine', () => {
    const files = ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', '.ci/run', 'package.json', ...everything];
    const wrong = files.filter((file) => /(^|[^\w.])\/(work|farm)\//m.test(text(file)));
    expect(wrong.filter((file) => file !== 'test/tidy.test.ts')).toEqual([]);
  });
});
