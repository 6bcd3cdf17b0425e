interface Document {
  /** Chromium's own, so not in TypeScript's description of the web. */
  readonly prerendering?: boolean;
}
interface CustomElementConstructor {
  /** What our element has since the first version. */
  add?(tag: HTMLScriptElement): unknown;
}
declare module "*.css" {
  const text: string;
  export default text;
}
