// Runs of fio, and what is kept of its JSON.

import { type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { runCommand, startChild } from './children.ts';
import { fioArguments, type FioRun, jobArguments } from './fio-arguments.ts';
import type { FioWork } from './loads.ts';
import type { Target } from './peer.ts';

export interface Latency {
  p50Us: number;
  p99Us: number;
  p999Us: number;
}

export interface Measurement {
  iops: number;
  megabytesPerSecond: number;
  latency: Latency;
  /** Absent from loads that do not flush. */
  flush?: Latency & { count: number };
  runtimeMs: number;
  requests: number;
  bytes: number;
  /** Share of one CPU that a client of fio itself used: near 100, the client is what was measured. */
  clientCpuPercent: number;
}

interface FioLatency {
  percentile?: Record<string, number>;
}

interface FioDirection {
  iops: number;
  bw_bytes: number;
  io_bytes: number;
  total_ios: number;
  runtime: number;
  lat_ns: FioLatency;
}

interface FioJob {
  error: number;
  read?: FioDirection;
  write?: FioDirection;
  mixed?: FioDirection;
  sync: { total_ios: number; lat_ns: FioLatency };
  usr_cpu: number;
  sys_cpu: number;
}

// What fio may take beyond its runtime, to connect and to drain: a server that hangs is an error.
const OVERTIME_MS = 60_000;
// Filling a volume and writing it back is bounded by the disk, not by a runtime.
const FILL_TIMEOUT_MS = 20 * 60_000;
const VERIFY_BYTES = 8 << 20;

/** Writes all of each target once, in sequence, and flushes it. */
export async function fillVolumes(targets: readonly Target[], cwd: string): Promise<void> {
  const args = ['--rw=write', '--bs=1M', '--iodepth=8', '--end_fsync=1'];
  await runFio(jobArguments(targets, args), FILL_TIMEOUT_MS, cwd);
}

/** Replays a log to its end. */
export async function replay(target: Target, log: string, cwd: string): Promise<void> {
  const args = ['--rw=write', '--bs=4k', '--iodepth=8', `--read_iolog=${log}`];
  await runFio(jobArguments([target], args), FILL_TIMEOUT_MS, cwd);
}

/** Writes blocks at random, reads them back and compares. @throws when a block differs. */
export async function verifyVolumes(targets: readonly Target[], cwd: string): Promise<void> {
  const args = ['--rw=randwrite', '--bs=4k', '--iodepth=32', `--size=${VERIFY_BYTES}`, '--verify=crc32c'];
  await runFio(jobArguments(targets, [...args, '--do_verify=1', '--verify_fatal=1']), OVERTIME_MS, cwd);
}

/** Writes so many bytes in random blocks. */
export async function scatterWrites(target: Target, bytes: number, cwd: string): Promise<void> {
  const args = ['--rw=randwrite', '--bs=4k', '--iodepth=32', '--norandommap', `--io_size=${bytes}`];
  await runFio(jobArguments([target], args), OVERTIME_MS, cwd);
}

/** Starts a trickle of random writes that lasts until it is stopped with SIGINT. */
export function startTrickle(target: Target, cwd: string): ChildProcess {
  const args = ['--rw=randwrite', '--bs=4k', '--rate_iops=1000', '--time_based', '--runtime=3600'];
  return startChild('fio', jobArguments([target], args), 'ignore', cwd);
}

export async function measureFio(work: FioWork, run: FioRun, cwd: string): Promise<Measurement> {
  const job = await runFio(fioArguments(work, run), run.seconds * 1000 + OVERTIME_MS, cwd);
  const direction = job.mixed ?? (work.rw.endsWith('read') ? job.read : job.write);
  if (direction === undefined || direction.total_ios === 0) throw new Error('fio made no request');
  return {
    iops: direction.iops,
    megabytesPerSecond: direction.bw_bytes / 1e6,
    latency: latencyOf(direction.lat_ns),
    ...(work.flushEvery > 0 ? { flush: { count: job.sync.total_ios, ...latencyOf(job.sync.lat_ns) } } : {}),
    runtimeMs: direction.runtime,
    requests: direction.total_ios,
    bytes: direction.io_bytes,
    clientCpuPercent: job.usr_cpu + job.sys_cpu,
  };
}

export async function writeLog(file: string, pieces: Iterable<string>): Promise<void> {
  await pipeline(Readable.from(pieces), createWriteStream(file));
}

async function runFio(args: readonly string[], timeoutMs: number, cwd: string): Promise<FioJob> {
  const output = await runCommand('fio', [...args], { cwd, timeoutMs });
  // Lines that are no JSON may stand before it.
  const report = JSON.parse(output.slice(output.search(/^\{/m))) as { jobs: FioJob[] };
  const job = report.jobs[0];
  if (job === undefined || job.error !== 0)
    throw new Error(`fio failed with errno ${job?.error}: ${args.join(' ')}`);
  return job;
}

function latencyOf(latency: FioLatency): Latency {
  const percentileUs = (key: string): number => (latency.percentile?.[key] ?? 0) / 1000;
  return {
    p50Us: percentileUs('50.000000'),
    p99Us: percentileUs('99.000000'),
    p999Us: percentileUs('99.900000'),
  };
}
