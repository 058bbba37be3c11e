/**
 * Patterns of names as shells have them: `*` stands for any characters, `?` for one. Pure.
 *
 * Invariant: a match takes at most as many steps as both lengths multiplied, whatever name a client makes up.
 */

/** True if all of `name` is what `pattern` describes. */
export function matchesPattern(pattern: string, name: string): boolean {
  let [at, next] = [0, 0];
  // The last star, and the first character that it does not stand for yet.
  let [star, behind] = [-1, 0];
  while (at < name.length) {
    if (pattern[next] === '*') {
      star = next++;
      behind = at;
    } else if (next < pattern.length && (pattern[next] === '?' || pattern[next] === name[at])) {
      next += 1;
      at += 1;
    } else if (star >= 0) {
      next = star + 1;
      at = ++behind;
    } else {
      return false;
    }
  }
  while (pattern[next] === '*') next += 1;
  return next === pattern.length;
}

export function matchesAny(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => matchesPattern(pattern, name));
}
