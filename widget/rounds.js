/*
 * When the program looks at the page and writes: in rounds, which are tasks of their own.
 *
 * Nothing is written from within an observer, and rounds and writes have a bound in time. So whatever
 * another script does about what we write, the tab goes on.
 */
import { warn } from "./console.js";

/** @type {(isTask?: boolean) => void} */
let look;
let due = 0;
let previous = 0;
let nLeft = 200;
/** @type {boolean | undefined} */
let isRunning;
/** @type {boolean | undefined} */
let isIdle;

/**
 * Run a round now, unless one runs already, or too much was done since the last task of ours.
 *
 * @param {boolean} [isTask]
 */
export function roundNow(isTask) {
  const COST = 20; // of a round, in writes
  if (isRunning || (nLeft -= COST) < 0) return plan();
  isRunning = true;
  try {
    look(isTask);
  } catch (error) {
    warn(error);
  }
  isRunning = false;
}

/** Plan a round, unless there will be one: at most ten a second. */
export function plan() {
  const GAP_MS = 100;
  const LOST_MS = 1000; // pages exist that clear all timers
  const MAX_AT_ONCE = 200; // writes, and rounds without a task of their own
  const now = Date.now();
  if (now < due) return;
  const at = Math.max(now, previous + GAP_MS);
  due = at + LOST_MS;
  setTimeout(() => {
    due = 0;
    previous = Date.now();
    nLeft = MAX_AT_ONCE;
    roundNow(true);
  }, at - now);
}

/** Look at the page in rounds, by a function that is told whether its round is a task. @param {typeof look} round */
export function startRounds(round) {
  look = round;
}

const idle = () =>
  (window.requestIdleCallback || setTimeout)(() => {
    isIdle = true;
    plan();
  });

/** Return whether the page's own nodes may be written: frameworks compare them with the server's first. */
export function isLightFree() {
  const isFree = isIdle || !document.querySelector("#__next,[data-reactroot],[data-server-rendered],astro-island");
  if (isFree) return true;
  if (document.readyState === "complete") idle();
  else addEventListener("load", idle);
  return false;
}

/**
 * Return whether something may be written now; else plan the round in which it may be.
 *
 * @param {{ at?: number }} memory of when it was written last
 * @param {boolean} isRepeated whether the same was written there before
 */
export function mayWrite(memory, isRepeated) {
  const REPEAT_MS = 1000;
  const now = Date.now();
  const wait_ms = isRepeated ? (memory.at || 0) + REPEAT_MS - now : 0;
  const may = wait_ms <= 0 && --nLeft >= 0;
  if (may) memory.at = now;
  else setTimeout(plan, wait_ms);
  return may;
}
