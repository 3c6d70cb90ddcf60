// Where asc looks for `import { … } from "@skerry/sdk-as"`.
export * from "./assembly/index";
