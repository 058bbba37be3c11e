/** The table of planted bugs does not rot: each fault applies to the source as it is, at one place, and parses. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAst } from 'vitest/node';
import { plant, whyNot } from '../tools/planted/fault.ts';
import { FAULTS } from '../tools/planted/faults.ts';

const ROOT = path.resolve(import.meta.dirname, '..');
const FAULTS_MIN = 100;

const text = (file: string): string => fs.readFileSync(path.join(ROOT, file), 'utf8');

describe('planted bugs', () => {
  it(`are at least ${FAULTS_MIN}, each named once by a sentence`, () => {
    expect(FAULTS.length).toBeGreaterThanOrEqual(FAULTS_MIN);
    const names = FAULTS.map(({ name }) => name);
    expect(names.filter((name, i) => names.indexOf(name) !== i || !/^[a-zA-Z].* .*[^.]$/.test(name))).toEqual(
      [],
    );
  });

  it('apply to the source as it is, at one place each', () => {
    const wrong = FAULTS.map((fault) => [fault.name, whyNot(text(fault.file), fault)]);
    expect(wrong.filter(([, reason]) => reason !== undefined)).toEqual([]);
  });

  it('leave a file that can be parsed', () => {
    const wrong: string[] = [];
    for (const fault of FAULTS) {
      try {
        parseAst(plant(text(fault.file), fault), { lang: 'ts' });
      } catch (error) {
        wrong.push(`${fault.name}: ${(error as Error).message}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('name test files that there are', () => {
    const named = new Set(FAULTS.flatMap(({ tests }) => tests));
    expect([...named].filter((file) => !fs.existsSync(path.join(ROOT, file)))).toEqual([]);
  });

  it('that would apply nowhere, twice, or change nothing are refused', () => {
    const fault = { name: 'a sentence', file: 'f', text: 'one', replacement: 'two', tests: [] };
    expect(plant('one $& more', { ...fault, replacement: '$&' })).toBe('$& $& more');
    for (const source of ['', 'one one']) expect(() => plant(source, fault)).toThrow(/does not apply/);
    expect(() => plant('one', { ...fault, replacement: 'one' })).toThrow(/changes nothing/);
  });
});
