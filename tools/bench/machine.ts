// What a reader of the numbers has to know about the machine they were measured on.

import os from 'node:os';
import { runCommand } from './children.ts';

export interface Machine {
  node: string;
  kernel: string;
  architecture: string;
  cpuModel: string;
  cpuCount: number;
  memoryBytes: number;
  /** Over one minute, when the benchmark started: above 0.5 the machine was not its own. */
  loadAverage: number;
  fileSystem: { type: string; source: string; options: string };
}

export async function describeMachine(directory: string): Promise<Machine> {
  const cpus = os.cpus();
  return {
    node: process.version,
    kernel: os.release(),
    architecture: os.arch(),
    cpuModel: cpus[0]?.model.trim() ?? 'unknown',
    cpuCount: cpus.length,
    memoryBytes: os.totalmem(),
    loadAverage: os.loadavg()[0] ?? 0,
    fileSystem: await describeFileSystem(directory),
  };
}

async function describeFileSystem(directory: string): Promise<Machine['fileSystem']> {
  const columns = ['-n', '-o', 'FSTYPE,SOURCE,OPTIONS', '-T', directory];
  const line = await runCommand('findmnt', columns).catch(() => '');
  const [type = 'unknown', source = 'unknown', options = 'unknown'] = line.trim().split(/\s+/);
  return { type, source, options };
}
