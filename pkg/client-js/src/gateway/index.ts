export { Gateway, openGateway } from "./gateway.js";
export type { GatewayClose, GatewayLogin, GatewayOptions, GatewaySet } from "./gateway.js";
