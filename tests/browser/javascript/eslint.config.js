import js from "@eslint/js";

export default [
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-empty": ["error", { allowEmptyCatch: true }], // what was lost is asked for again
      "no-undef": "off", // names are what the check of types is for
      "no-shadow": ["error", { hoist: "functions" }],
      "no-var": "error",
      "no-implicit-globals": "error",
      "prefer-const": "error",
      "max-len": ["error", { code: 120 }],
    },
  },
];
