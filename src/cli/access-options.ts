/** `--export PATTERN` and `--access FILE` of `serve`: who is offered what. README.md has the rules. */

import fs from 'node:fs';
import { fromSystemError, StoreError } from '../base/errors.ts';
import { AccessRules, parseAccessRules, requireExportPattern } from '../nbd/access-rules.ts';

/** @throws INVALID_ARGUMENT, NOT_FOUND, IO */
export function readAccess(patterns: readonly string[] | undefined, file: string | undefined): AccessRules {
  const offered = patterns?.map((pattern) => requireExportPattern(pattern, '--export'));
  return new AccessRules(file === undefined ? undefined : readRules(file), offered);
}

function readRules(file: string): ReturnType<typeof parseAccessRules> {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw fromSystemError(error, `reading the access rules in ${file}`);
  }
  try {
    return parseAccessRules(text);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    throw new StoreError(error.code, `the access rules in ${file}: ${error.message}`);
  }
}
