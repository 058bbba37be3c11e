// What TLS costs: nbdcopy writes and reads a volume in requests of 1 MiB over one connection to one
// Unix socket, with a shared key and in plain text, one after the other in each round.

import { randomBytes } from 'node:crypto';
import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { runCommand } from './children.ts';
import { cpuSeconds } from './cpu.ts';
import { CoppiceServer } from './coppice-peer.ts';
import { median } from './summary.ts';
import { missingTool } from './tools.ts';

const VOLUME_BYTES_MAX = 512 * 2 ** 20;
const USER = 'bench';
const DIRECTIONS = ['write', 'read'] as const;
const WAYS = ['plain', 'tls'] as const;
const NBDCOPY = ['--connections=1', '--requests=8', '--request-size=1048576', '--allocated'];

type Direction = (typeof DIRECTIONS)[number];
type Way = (typeof WAYS)[number];

export interface TlsSample {
  readonly round: number;
  readonly direction: Direction;
  readonly way: Way;
  readonly megabytesPerSecond: number;
  readonly serverCpuSeconds: number;
}

export interface TlsSummary {
  readonly direction: Direction;
  readonly plain: number;
  readonly tls: number;
  /** The median of each round's. */
  readonly ratio: number;
}

export interface TlsPlan {
  readonly scratch: string;
  readonly roundCount: number;
  readonly volumeBytes: number;
}

/** Undefined if it can be measured. */
export const missingForTls = (): string | undefined => missingTool('nbdcopy');

export async function measureTls(
  { scratch, roundCount, volumeBytes }: TlsPlan,
  progress: (line: string) => void,
): Promise<TlsSample[]> {
  const directory = path.join(scratch, 'tls');
  await mkdir(directory);
  const bytes = Math.min(volumeBytes, VOLUME_BYTES_MAX);
  const source = path.join(directory, 'source.raw');
  const keys = path.join(directory, 'keys.psk');
  await writeRandom(source, bytes);
  await writeFile(keys, `${USER}:${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  const place = { directory, volumeBytes: bytes, volumeCount: 1 };
  const server = await CoppiceServer.start(place, ['--tls=on', `--tls-psk=${keys}`]);
  const { uri } = server;
  const uris: Record<Way, string> = {
    plain: uri,
    tls: `${uri.replace('nbd+unix:///', `nbds+unix://${USER}@/`)}&tls-psk-file=${encodeURI(keys)}`,
  };
  const samples: TlsSample[] = [];
  try {
    // The first write allocates, others write over what is there.
    await runCommand('nbdcopy', [...NBDCOPY, source, uris.plain]);
    for (let round = 1; round <= roundCount; round++) {
      for (const direction of DIRECTIONS) {
        for (const way of round % 2 === 0 ? WAYS.toReversed() : WAYS) {
          const ends = direction === 'write' ? [source, uris[way]] : [uris[way], 'null:'];
          const cpuBefore = cpuSeconds(server.pids);
          const startedAt = performance.now();
          await runCommand('nbdcopy', [...NBDCOPY, ...ends]);
          const megabytesPerSecond = bytes / 1e3 / (performance.now() - startedAt);
          const serverCpuSeconds = cpuSeconds(server.pids) - cpuBefore;
          samples.push({ round, direction, way, megabytesPerSecond, serverCpuSeconds });
          progress(`round ${round}: ${way}: ${direction}: ${Math.round(megabytesPerSecond)} MB/s`);
        }
      }
    }
  } finally {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  }
  return samples;
}

export function summarizeTls(samples: readonly TlsSample[]): TlsSummary[] {
  return DIRECTIONS.map((direction) => {
    const [plain, tls] = WAYS.map((way) =>
      samples
        .filter((sample) => sample.direction === direction && sample.way === way)
        .map(({ megabytesPerSecond }) => megabytesPerSecond),
    ) as [number[], number[]];
    const ratio = median(tls.map((value, i) => value / (plain[i] ?? Number.NaN)));
    return { direction, plain: median(plain), tls: median(tls), ratio };
  });
}

/** A line a direction. */
export function tlsTable(summaries: readonly TlsSummary[]): string {
  const lines = summaries.map(
    ({ direction, plain, tls, ratio }) =>
      `1 MiB ${direction}, nbdcopy: ${Math.round(plain)} MB/s plain, ${Math.round(tls)} MB/s TLS, ${ratio.toFixed(2)}x`,
  );
  return lines.join('\n');
}

async function writeRandom(file: string, bytes: number): Promise<void> {
  const handle = await open(file, 'w');
  try {
    for (let at = 0; at < bytes; at += 2 ** 20) await handle.write(randomBytes(2 ** 20));
  } finally {
    await handle.close();
  }
}
