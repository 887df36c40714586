#pragma once
// Models that a program takes and no single plan holds, for tests.

namespace slipway {

/// A tiny attention, two dimensions free.
inline constexpr const char* kTwoFreeAxes = R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[N,L,8]
  input %w_m : f32[8,8]
  %h = MatMul(%x, %w_m)
  %a = Relu(%h)
  %t = Transpose(%a) {perm = [0, 2, 1]}
  %s = MatMul(%a, %t)
  %p = Softmax(%s) {axis = -1}
  output %p, %a
})";

/// What follows NonZero has a shape of its own at each run; what comes before it is one plan.
inline constexpr const char* kSelecting = R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[R,4]
  const %zero : f32[] = {0}
  const %one : i64[1] = {1}
  %y = Mul(%x, %x)
  %s = ReduceSum(%y, %one) {keepdims = 0}
  %big = Greater(%x, %zero)
  %at = NonZero(%big)
  %rows = Transpose(%at) {perm = [1, 0]}
  %picked = GatherND(%x, %rows)
  %half = Mul(%picked, %picked)
  %order, %index = Unique(%half) {sorted = 1}
  %sum = Add(%order, %zero)
  output %s, %half, %sum
})";

/// Bodies that are worth a plan, with a constant and a computed value from around them; the loop's state grows.
inline constexpr const char* kBodies = R"(graph "g" ir 8 opset {"": 17} {
  input %x : f32[64,64]
  input %go : bool[]
  input %trips : i64[]
  input %w_m : f32[64,64]
  %v = Relu(%x)
  %y = If(%go) captures (%v, %w_m) {else_branch = graph "else" {
    capture 0 %v
    %n = Neg(%v)
    output %n
  }, then_branch = graph "then" {
    capture 0 %v
    capture 1 %m
    const %tenth : f32[] = {0.1}
    %a = MatMul(%v, %m)
    %b = MatMul(%a, %m)
    %c = Mul(%b, %tenth)
    output %c
  }}
  %last, %all = Loop(%trips, _, %y) captures (%w_m) {body = graph "body" {
    input %i : i64[]
    input %on : bool[]
    input %s : f32[R,64]
    capture 0 %m
    const %tenth : f32[] = {0.1}
    %p = MatMul(%s, %m)
    %q = Mul(%p, %tenth)
    %r = Concat(%q, %s) {axis = 0}
    %mean = ReduceMean(%q) {axes = [0, 1], keepdims = 0}
    output %on, %r, %mean
  }}
  output %last, %all
})";

}  // namespace slipway
