interface Document {
  /** Chromium's own, so not in TypeScript's description of the web. */
  readonly prerendering?: boolean;
}
interface CustomElementConstructor {
  add(tag: HTMLScriptElement): unknown;
}
