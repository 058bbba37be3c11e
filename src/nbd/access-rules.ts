/**
 * Who is offered which exports, and whether only to read. Pure.
 *
 *     [{ "listener": PATTERN, "client": PATTERN, "exports": [PATTERN, ...], "readOnly": true }, ...]
 *
 * The first rule whose listener and client match says it; where none does, nothing is offered. A rule without a
 * listener is for all of them, one without a client for whoever comes. A rule with a client is only for those who have
 * proved who they are, `*` for all of these.
 *
 * Invariant: what is not offered is never looked up, so that nothing tells it from what does not exist.
 */

import { StoreError } from '../base/errors.ts';
import { matchesAny, matchesPattern } from './name-pattern.ts';

export interface AccessRule {
  readonly listener?: string;
  readonly client?: string;
  readonly exports: readonly string[];
  readonly readOnly?: boolean;
}

const EVERYTHING = ['*'];
/** What names of exports are made of, and patterns of them. */
const EXPORT_PATTERN = /^[\w.@*?-]+$/;

/** What one client may have. */
export class Grant {
  readonly readOnly: boolean;
  /** A name must match one pattern of each list. */
  readonly #lists: readonly (readonly string[])[];

  constructor(lists: readonly (readonly string[])[], readOnly: boolean) {
    this.#lists = lists.filter((patterns) => !patterns.includes('*'));
    this.readOnly = readOnly;
  }

  get offersAll(): boolean {
    return this.#lists.length === 0;
  }

  offers(name: string): boolean {
    return this.#lists.every((patterns) => matchesAny(patterns, name));
  }
}

export class AccessRules {
  readonly #rules: readonly AccessRule[];
  readonly #offered: readonly string[];

  /** Nobody is offered what no pattern of `offered` matches. */
  constructor(
    rules: readonly AccessRule[] = [{ exports: EVERYTHING }],
    offered: readonly string[] = EVERYTHING,
  ) {
    this.#rules = rules;
    this.#offered = offered;
  }

  /** What `client`, whose name was proved, or an unknown one, may have of those who come over `listener`. */
  grant(listener: string, client: string | undefined): Grant {
    const rule = this.#rules.find((each) => isFor(each, listener) && isOf(each, client));
    return new Grant([this.#offered, rule?.exports ?? []], rule?.readOnly ?? false);
  }

  /** True if there may be a client that is offered `name` over `listener`. */
  mayOffer(listener: string, name: string): boolean {
    if (!matchesAny(this.#offered, name)) return false;
    for (const rule of this.#rules) {
      if (!isFor(rule, listener)) continue;
      if (matchesAny(rule.exports, name)) return true;
      // Whoever comes, no later rule is asked.
      if (rule.client === undefined) return false;
    }
    return false;
  }
}

function isFor(rule: AccessRule, listener: string): boolean {
  return rule.listener === undefined || matchesPattern(rule.listener, listener);
}

function isOf(rule: AccessRule, client: string | undefined): boolean {
  return rule.client === undefined || (client !== undefined && matchesPattern(rule.client, client));
}

/** Rules as they stand in a file. @throws INVALID_ARGUMENT */
export function parseAccessRules(text: string): AccessRule[] {
  let rules: unknown;
  try {
    rules = JSON.parse(text);
  } catch (error) {
    throw refusal(`they are no JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(rules)) throw refusal('give a list of rules, like [{"exports": ["disk*"]}]');
  return rules.map((rule: unknown, i) => parseRule(rule, `rule ${i + 1}`));
}

function parseRule(rule: unknown, which: string): AccessRule {
  if (typeof rule !== 'object' || rule === null || Array.isArray(rule))
    throw refusal(`${which} is none: write it like {"exports": ["disk*"]}`);
  const { listener, client, exports, readOnly, ...others } = rule as Record<string, unknown>;
  const [other] = Object.keys(others);
  if (other !== undefined)
    throw refusal(`${which} has '${other}': there are listener, client, exports and readOnly`);
  for (const [name, pattern] of Object.entries({ listener, client })) {
    if (pattern !== undefined && (typeof pattern !== 'string' || pattern === ''))
      throw refusal(`${which}: '${name}' is not a pattern: give a text such as "*"`);
  }
  if (!Array.isArray(exports))
    throw refusal(`${which}: 'exports' has to be a list of patterns, such as ["disk", "disk@*"]`);
  if (readOnly !== undefined && typeof readOnly !== 'boolean')
    throw refusal(`${which}: 'readOnly' has to be true or false`);
  return {
    ...(listener === undefined ? {} : { listener: listener as string }),
    ...(client === undefined ? {} : { client: client as string }),
    exports: exports.map((pattern: unknown) => requireExportPattern(pattern, which)),
    ...(readOnly === undefined ? {} : { readOnly }),
  };
}

/** @throws INVALID_ARGUMENT unless names of exports could match */
export function requireExportPattern(pattern: unknown, where: string): string {
  if (typeof pattern === 'string' && EXPORT_PATTERN.test(pattern)) return pattern;
  throw refusal(
    `${where}: ${JSON.stringify(pattern)} can match no export: a pattern is made of A-Z a-z 0-9 . _ - @ * ?`,
  );
}

function refusal(message: string): StoreError {
  return new StoreError('INVALID_ARGUMENT', message);
}
