// The benchmark: Coppice and what a user would pick instead, on the same file system, with the same client, in
// interleaved rounds. Prints tables, writes JSON, compares with an earlier run and draws.
//
// Exit codes: 0 measured; 1 a peer failed, or with --check a floor was not held; 2 wrong usage or
// nothing to measure with; 130 interrupted.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdir, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stopAll } from './children.ts';
import { changesSince, differencesOfRuns } from './compare.ts';
import { SERVE_UNCOMPACTED } from './coppice-peer.ts';
import { checkFloors } from './floors.ts';
import { missingForGuests } from './guest-kit.ts';
import { Kit } from './kit.ts';
import { listing } from './list.ts';
import { type Load, selectLoads } from './loads.ts';
import { describeMachine } from './machine.ts';
import { type Options, parseOptions } from './options.ts';
import { missingFor, PEERS } from './peers.ts';
import { plot } from './plot.ts';
import { changeTable, floorTable, summaryTable } from './report.ts';
import { readResults, type Results, writeResults } from './results.ts';
import { peersFor, type Plan, runRounds } from './rounds.ts';
import { summarize } from './summary.ts';
import { spaceNeeded } from './space.ts';
import { measureTls, missingForTls, summarizeTls, tlsTable } from './tls.ts';
import { missingTool, toolVersions } from './tools.ts';
import { serveUncompacted } from './uncompacted-server.ts';

// A Unix socket's path is limited to 107 bytes; this is the longest below the scratch directory.
const SCRATCH_PATH_BYTES_MAX = 107 - '/coppice-uncompacted/store/control.sock'.length;

if (process.argv[2] === SERVE_UNCOMPACTED) await serveUncompacted(process.argv[3]!);
else process.exitCode = await bench(parseOptions());

async function bench(options: Options): Promise<number> {
  if (options.list) {
    process.stdout.write(`${listing()}\n`);
    return 0;
  }
  const loads = loadsHere(options);
  const peers = peersHere(options, loads);
  const missingFio = missingTool('fio');
  if (missingFio !== undefined || peers.length === 0) {
    say(missingFio ?? 'no peer is left to measure');
    return 2;
  }

  mkdirSync(options.dir, { recursive: true });
  await requireSpace(options.dir, spaceNeeded(peers, loads, options));
  const scratch = mkdtempSync(path.join(path.resolve(options.dir), 's-'));
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
    const { rounds: roundCount, seconds, pacedSeconds, sizes } = options;
    const kit = new Kit(scratch, sizes);
    const interrupted = interruption.signal;
    return await measure(
      { peers, loads, kit, sizes, roundCount, seconds, pacedSeconds, interrupted },
      options,
    );
  } catch (error) {
    if (interruption.signal.aborted) return 130;
    say(error instanceof Error ? error.message : String(error));
    return 1;
  } finally {
    await stopAll();
  }
}

async function measure(plan: Plan, options: Options): Promise<number> {
  const before = options.compare === undefined ? undefined : await readResults(options.compare);
  const startedAt = new Date().toISOString();
  const machine = await describeMachine(plan.kit.directory);
  const versioned = plan.peers.flatMap((peer) => peer.tools).filter((tool) => /^(qemu|nbdkit)/.test(tool));
  const tools = await toolVersions([...new Set(['fio', ...versioned])]);
  const { samples, failures } = await runRounds(plan, say);
  const tlsSamples = isTlsWanted(options) ? await measureTls(tlsPlan(plan), say) : [];

  const summaries = summarize(samples);
  const floors = checkFloors(samples, ({ load, peer }) => {
    const asked = plan.loads.find(({ name }) => name === load);
    return (
      asked !== undefined &&
      options.peers.includes(peer) &&
      peersFor(PEERS, asked).some(({ name }) => name === peer)
    );
  });
  const { roundCount, seconds, pacedSeconds, sizes } = plan;
  const tls = { summaries: tlsSamples.length === 0 ? [] : summarizeTls(tlsSamples), samples: tlsSamples };
  const measured = { summaries, floors, failures, samples, tls };
  const results: Results = {
    startedAt,
    machine,
    tools,
    roundCount,
    seconds,
    pacedSeconds,
    sizes,
    ...measured,
  };
  await writeResults(options.json, results);
  await report(results, before, options);
  const missed = options.check && floors.some(({ held, isAim }) => !held && isAim !== true);
  return failures.length > 0 || missed ? 1 : 0;
}

async function report(results: Results, before: Results | undefined, options: Options): Promise<void> {
  const { summaries, floors, failures, tls, roundCount, seconds } = results;
  const tables = [
    `Median and spread of ${roundCount} rounds of ${seconds} s; "coppice is" the median of each round's ratio.`,
    summaryTable(summaries),
    ...(floors.length === 0 ? [] : [floorTable(floors)]),
    ...(tls.summaries.length === 0 ? [] : [tlsTable(tls.summaries)]),
    ...(before === undefined
      ? []
      : [...differencesOfRuns(before, results), changeTable(changesSince(before.summaries, summaries))]),
    ...failures.map(
      ({ round, peer, load, message }) => `FAILED in round ${round}: ${peer} ${load ?? ''}: ${message}`,
    ),
  ];
  process.stdout.write(`\n${tables.join('\n\n')}\n\n`);
  say(`results are in ${options.json}`);
  if (options.plot === undefined) return;
  const { startedAt, machine } = results;
  await mkdir(path.dirname(options.plot), { recursive: true });
  await writeFile(
    options.plot,
    plot(`Coppice, ${startedAt}, ${machine.cpuCount} x ${machine.cpuModel}`, summaries),
  );
  say(`they are drawn in ${options.plot}`);
}

function loadsHere({ loads }: Options): Load[] {
  const missing = missingForGuests();
  return selectLoads(loads).filter(({ name, stage }) => {
    const isLeftOut = stage === 'guest' && missing !== undefined;
    if (isLeftOut) say(`*** ${name} IS LEFT OUT: ${missing} ***`);
    return !isLeftOut;
  });
}

function peersHere({ peers }: Options, loads: readonly Load[]): typeof PEERS {
  return PEERS.filter((peer) => {
    if (!peers.includes(peer.name) || loads.every((load) => peersFor([peer], load).length === 0))
      return false;
    const missing = missingFor(peer);
    if (missing !== undefined) say(`*** ${peer.name} IS LEFT OUT: ${missing} ***`);
    return missing === undefined;
  });
}

function isTlsWanted({ tls, peers }: Options): boolean {
  if (!tls || !peers.includes('coppice')) return false;
  const missing = missingForTls();
  if (missing !== undefined) say(`*** TLS IS LEFT OUT: ${missing} ***`);
  return missing === undefined;
}

function tlsPlan({ kit, roundCount, sizes }: Plan): Parameters<typeof measureTls>[0] {
  return { scratch: kit.directory, roundCount, volumeBytes: sizes.volumeBytes };
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
