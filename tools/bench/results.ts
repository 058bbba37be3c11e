// What a run leaves behind, as JSON, for later runs to be compared with.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { FloorResult } from './floors.ts';
import type { Machine } from './machine.ts';
import type { Failure } from './rounds.ts';
import type { Sizes } from './stages.ts';
import type { Sample, Summary } from './summary.ts';
import type { TlsSample, TlsSummary } from './tls.ts';

/** Raised when figures change their meaning. */
const FORMAT = 'coppice-bench-2';

export interface Results {
  readonly startedAt: string;
  readonly machine: Machine;
  readonly tools: Record<string, string>;
  readonly roundCount: number;
  readonly seconds: number;
  readonly pacedSeconds: number;
  readonly sizes: Sizes;
  readonly summaries: readonly Summary[];
  readonly floors: readonly FloorResult[];
  readonly failures: readonly Failure[];
  readonly samples: readonly Sample[];
  readonly tls: { readonly summaries: readonly TlsSummary[]; readonly samples: readonly TlsSample[] };
}

export async function writeResults(file: string, results: Results): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify({ format: FORMAT, ...results }, null, 2)}\n`);
}

/** @throws when it cannot be read, or is of another format */
export async function readResults(file: string): Promise<Results> {
  const results = JSON.parse(await readFile(file, 'utf8')) as Results & { format?: string };
  if (results.format !== FORMAT) throw new Error(`${file} has no results of this benchmark (${FORMAT})`);
  return results;
}
