// The benchmark: fio against Coppice and against the servers a user would pick instead, on the
// same file system, with the same client, in interleaved rounds. Prints tables and writes JSON.
//
// Exit codes: 0 measured; 1 a peer failed, or with --check a floor was not held; 2 wrong usage or
// nothing to measure with; 130 interrupted.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdir, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stopAll } from './children.ts';
import { checkFloors } from './floors.ts';
import { selectLoads } from './loads.ts';
import { describeMachine } from './machine.ts';
import { type Options, parseOptions } from './options.ts';
import { PEERS, missingFor } from './peers.ts';
import { latencyTable, throughputTable } from './report.ts';
import { type Plan, SCRATCH_BYTES_MAX, runRounds } from './rounds.ts';
import { summarize } from './summary.ts';
import { measureTls, missingForTls, summarizeTls, tlsTable } from './tls.ts';
import { missingTool, toolVersions } from './tools.ts';

// A Unix socket's path is limited to 107 bytes; this is the longest below the scratch directory.
const SCRATCH_PATH_BYTES_MAX = 107 - '/qemu-qcow2/store/nbd.sock'.length;
// More than a server here writes: what a log may grow by in one run.
const WRITTEN_BYTES_PER_SECOND = 3 * 2 ** 30;

process.exitCode = await bench(parseOptions());

async function bench(options: Options): Promise<number> {
  const peers = PEERS.filter((peer) => options.peers.includes(peer.name)).filter((peer) => {
    const missing = missingFor(peer);
    if (missing !== undefined) say(`${peer.name} is left out: ${missing}`);
    return missing === undefined;
  });
  const missingFio = missingTool('fio');
  if (missingFio !== undefined || peers.length === 0) {
    say(missingFio ?? 'no peer is left to measure');
    return 2;
  }

  mkdirSync(options.dir, { recursive: true });
  const spaceBytes =
    peers.length * options.size + SCRATCH_BYTES_MAX + options.seconds * WRITTEN_BYTES_PER_SECOND;
  await requireSpace(options.dir, spaceBytes);
  const scratch = mkdtempSync(path.join(path.resolve(options.dir), 'scratch-'));
  // On exit, so that an error nobody caught cleans up too.
  process.on('exit', () => rmSync(scratch, { recursive: true, force: true, maxRetries: 5 }));
  const interruption = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interruption.abort();
      // Runs in progress fail once their processes end, and the round unwinds below.
      void stopAll();
    });
  }
  try {
    if (Buffer.byteLength(scratch) > SCRATCH_PATH_BYTES_MAX) {
      throw new Error(`${scratch} is too long for Unix sockets below it: pass a shorter --dir`);
    }
    const plan: Plan = {
      scratch,
      peers,
      loads: selectLoads(options.only),
      roundCount: options.rounds,
      seconds: options.seconds,
      volumeBytes: options.size,
      interrupted: interruption.signal,
    };
    return await measure(plan, options);
  } catch (error) {
    if (interruption.signal.aborted) return 130;
    say(error instanceof Error ? error.message : String(error));
    return 1;
  } finally {
    await stopAll();
  }
}

async function measure(plan: Plan, options: Options): Promise<number> {
  const startedAt = new Date().toISOString();
  const machine = await describeMachine(plan.scratch);
  const tools = await toolVersions([...new Set(['fio', ...plan.peers.flatMap((peer) => peer.tools)])]);
  const { samples, failures } = await runRounds(plan, say);

  const tlsSamples = isWanted(options) ? await measureTls(plan, say) : [];

  const summaries = summarize(samples, plan.loads);
  const floors = checkFloors(summaries, options.peers);
  const { roundCount, seconds, volumeBytes } = plan;
  const results = {
    startedAt,
    machine,
    tools,
    roundCount,
    seconds,
    volumeBytes,
    summaries,
    floors,
    failures,
    samples,
    tls: { summaries: tlsSamples.length === 0 ? [] : summarizeTls(tlsSamples), samples: tlsSamples },
  };
  const json = `${JSON.stringify(results, null, 2)}\n`;
  await mkdir(path.dirname(options.output), { recursive: true });
  await writeFile(options.output, json);

  const names = plan.peers.map((peer) => peer.name);
  const tables = [
    `Median (min-max) of ${roundCount} rounds of ${seconds} s; a ratio is the median of each round's.`,
    throughputTable(summaries, names, floors),
    latencyTable(summaries, names),
    ...(tlsSamples.length === 0 ? [] : [tlsTable(results.tls.summaries)]),
  ];
  process.stdout.write(options.json ? json : `\n${tables.join('\n\n')}\n\n`);
  say(`results are in ${options.output}`);
  const missed = options.check && floors.some((floor) => !floor.held);
  return failures.length > 0 || missed ? 1 : 0;
}

function isWanted({ tls, peers }: Options): boolean {
  if (!tls || !peers.includes('coppice')) return false;
  const missing = missingForTls();
  if (missing !== undefined) say(`TLS is left out: ${missing}`);
  return missing === undefined;
}

async function requireSpace(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize >= bytes) return;
  say(`${directory} has too little space: ${Math.ceil(bytes / 2 ** 30)} GiB may be used`);
  process.exit(2);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
