#!/usr/bin/env node
/** `coppice fsck` as a program of its own: `npm run fsck -- --store DIR`, or `node dist/tools/fsck/main.js --store DIR`. */

import { runCheckProgram } from '../../src/cli/check-program.ts';
import { endOnMistake, readVersion } from '../../src/cli/process.ts';

process.umask(0o077);
endOnMistake();
process.exitCode = await runCheckProgram(process.argv.slice(2), readVersion());
