/** The units for systemd: it takes them as they are, finds them well protected, and what they run works. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MAIN } from '../cli/command.ts';
import { Cleanup, Program, runTool, tool } from '../support/programs.ts';
import { scratchDirectory } from '../support/stores.ts';
import { requireTools } from '../support/tools.ts';

const UNITS = path.resolve(import.meta.dirname, '../../systemd');
/** Of a hundred; what systemd itself calls safe is below 20. */
const EXPOSURE_MAX = 10;

const cleanup = new Cleanup();
afterEach(() => cleanup.run());

describe.skipIf(!requireTools(['systemd-analyze', 'nbdinfo']))('the units for systemd', () => {
  let directory: string;
  let service: string;
  const unit = (suffix: string): string => path.join(directory, `coppice@disks.${suffix}`);

  /** As they would be installed, for an instance, with the program of this build. */
  beforeEach(() => {
    directory = scratchDirectory();
    cleanup.add(() => fs.rmSync(directory, { recursive: true }));
    const program = path.join(directory, 'coppice');
    fs.writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`, { mode: 0o755 });
    for (const suffix of ['service', 'socket']) {
      const text = fs.readFileSync(path.join(UNITS, `coppice@.${suffix}`), 'utf8');
      fs.writeFileSync(unit(suffix), text.replaceAll('/usr/bin/coppice', program));
    }
    service = fs.readFileSync(unit('service'), 'utf8');
  });

  it('are understood by systemd, to the last word', async () => {
    expect(await tool('systemd-analyze', ['verify', unit('service'), unit('socket')])).toBe('');
  });

  it('leave little that a server gone wrong could do', async () => {
    const args = ['security', '--offline=yes', `--threshold=${EXPOSURE_MAX}`, unit('service')];
    const { result, output } = await runTool('systemd-analyze', args);
    expect(result, output).toBe(0);
  });

  it('make a store at the first start and not at the next, and serve it', async () => {
    const state = path.join(directory, 'state');
    fs.mkdirSync(state);
    const env = { STATE_DIRECTORY: state };
    const prepare = /^ExecStartPre=\/bin\/sh -c '(.*)'$/m.exec(service)![1]!;
    for (const printed of [/made an empty store/, /^$/])
      expect(await tool('sh', ['-c', prepare], { env })).toMatch(printed);
    const server = new Program('sh', ['-c', `exec ${/^ExecStart=(.*)$/m.exec(service)![1]}`], { env });
    cleanup.add(() => server.kill());
    await server.until(() => server.output.includes('"serving"'), 'server');
    await server.kill('SIGTERM');
    expect(server.result).toBe(0);
  });
});
