// TLS on the listeners and in the clients, against certificates made here.
#include "serve/tls.h"

#include <atomic>
#include <thread>

#include "serve/admin/admin.h"
#include "serve/admin/admin_client.h"
#include "serve/grpc/credentials.h"
#include "serve/grpc/grpc_testing.h"
#include "serve/http/http_listener.h"
#include "serve/http/http_testing.h"
#include "serve/tls_testing.h"

namespace slipway {
namespace {

void return_body(const std::shared_ptr<HttpExchange>& exchange) {
  const auto body = exchange->request().body;
  exchange->respond({.body = std::string(reinterpret_cast<const char*>(body.data()), body.size())});
}

class TlsTest : public ::testing::Test {
 protected:
  std::shared_ptr<TlsIdentity> identity_of(const TlsFiles& files) { return std::make_shared<TlsIdentity>(files); }
  std::shared_ptr<ssl_ctx_st> trusting(const std::string& ca) { return tls_client_context({.ca = ca}); }

  TestFolder folder_;
  TestAuthority authority_{folder_, "authority"}, other_{folder_, "other"};
};

TEST_F(TlsTest, FilesThatDoNotFitAreRefusedAndTheOldStay) {
  const TlsFiles good = authority_.issue("server");
  TlsIdentity identity(good);
  const auto before = identity.current();
  const std::string cert = read_text_file(good.cert), key = read_text_file(good.key);
  const auto refused = [&](const std::string& part) {
    EXPECT_NE(error_of([&] { identity.reload(); }).find(part), std::string::npos) << part;
    EXPECT_EQ(identity.current(), before);
  };
  const TlsFiles another = authority_.issue("another");
  write_file(good.key, std::string_view(read_text_file(another.key)));
  refused("not that of the certificate");
  write_file(good.key, std::string_view("no key"));
  refused("no private key");
  write_file(good.key, std::string_view(key));
  for (const std::string& bad : {std::string(), std::string("no certificate"), cert.substr(0, cert.size() / 2),
                                 cert + cert.substr(0, cert.size() / 2), key}) {
    write_file(good.cert, std::string_view(bad));
    refused("no certificate in PEM");
  }
  write_file(good.cert, std::string_view(cert + read_text_file(authority_.ca)));
  identity.reload();
  EXPECT_NE(identity.current(), before);
  EXPECT_THROW(TlsIdentity({.cert = good.cert}), Error);
  EXPECT_THROW(TlsIdentity({.ca = authority_.ca}), Error);
  EXPECT_THROW(TlsIdentity({.cert = good.cert, .key = good.key, .ca = good.key}), Error);
  EXPECT_THROW(TlsIdentity({.cert = folder_.path("none"), .key = good.key}), Error);
  EXPECT_THROW(tls_client_context({.key = good.key}), Error);
}

TEST_F(TlsTest, RequestsOfAllSizesGoThrough) {
  HttpListener listener({.threads = 2, .tls = identity_of(authority_.issue("server"))}, return_body);
  listener.start();
  const auto context = trusting(authority_.ca);
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&, c] {
      TestClient client(listener.port(), c == 0 ? 4096 : 0);
      client.secure(context.get());
      for (const size_t size :
           {size_t{0}, size_t{5}, size_t{16'300}, size_t{16'384}, size_t{100'000}, size_t{5'000'001}}) {
        std::string body(size, static_cast<char>('a' + c));
        for (size_t i = 0; i < size; i += 4093) body[i] = static_cast<char>('A' + i % 26);
        const std::string request = fmt::format("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", size) + body;
        std::thread sender;
        if (size == 0)
          client.send(request);  // with the handshake, in which two threads would wait for the same bytes
        else
          sender = std::thread([&] { client.send(request); });
        const TestResponse response = client.receive();
        if (sender.joinable()) sender.join();
        EXPECT_EQ(response.status, 200);
        EXPECT_TRUE(response.body == body) << size;
      }
    });
  for (auto& caller : callers) caller.join();
}

TEST_F(TlsTest, PipelinedRequestsPortionsAndContinue) {
  HttpListener listener({.tls = identity_of(authority_.issue("server"))}, return_body);
  listener.start();
  TestClient client(listener.port());
  const auto context = trusting(authority_.ca);
  client.secure(context.get());
  std::string all;
  for (int i = 0; i < 500; ++i) all += fmt::format("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n{:03}", i);
  client.send(all);
  for (int i = 0; i < 500; ++i) ASSERT_EQ(client.receive().body, fmt::format("{:03}", i));
  for (const char c : std::string("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")) client.send({&c, 1});
  EXPECT_EQ(client.receive().body, "hi");
  client.send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.receive().status, 100);
  EXPECT_EQ(client.ask("ab").body, "ab");
  EXPECT_EQ(client.get("/", "Connection: close\r\n").status, 200);
  EXPECT_TRUE(client.ended());
}

TEST_F(TlsTest, TensorsGoOutFromWhereTheyLie) {
  const std::vector<float> values(1'000'000, 1.25f);
  HttpListener listener({.tls = identity_of(authority_.issue("server"))}, [&](const std::shared_ptr<HttpExchange>& e) {
    const auto bytes = std::as_bytes(std::span(values));
    e->respond({.body = "head", .tail = {bytes.first(10), bytes.subspan(10, 7), bytes.subspan(17)}});
  });
  listener.start();
  TestClient client(listener.port(), 4096);
  const auto context = trusting(authority_.ca);
  client.secure(context.get());
  const TestResponse response = client.get("/");
  ASSERT_EQ(response.body.size(), 4 + values.size() * sizeof(float));
  EXPECT_EQ(std::memcmp(response.body.data() + 4, values.data(), values.size() * sizeof(float)), 0);
}

TEST_F(TlsTest, ClientsTrustNamesAndAuthorities) {
  HttpListener listener({.tls = identity_of(authority_.issue("server", "DNS:model.example"))}, return_body);
  listener.start();
  const auto call = [&](const std::string& ca, const std::string& host) {
    const auto context = trusting(ca);
    TestClient client(listener.port());
    client.secure(context.get(), host);
    return client.get("/").status;
  };
  EXPECT_EQ(call(authority_.ca, "model.example"), 200);
  EXPECT_EQ(call(authority_.ca, "other.example"), 0);
  EXPECT_EQ(call(authority_.ca, "127.0.0.1"), 0);
  EXPECT_EQ(call(other_.ca, "model.example"), 0);
}

TEST_F(TlsTest, AClientWithoutACertificateIsNotLetIn) {
  TlsFiles files = authority_.issue("server");
  files.ca = other_.ca;
  HttpListener listener({.tls = identity_of(files)}, return_body);
  listener.start();
  const auto call = [&](TlsFiles client_files) {
    client_files.ca = authority_.ca;
    const auto context = tls_client_context(client_files);
    TestClient client(listener.port());
    client.secure(context.get());
    return client.get("/").status;
  };
  EXPECT_EQ(call({}), 0);
  EXPECT_EQ(call(authority_.issue("stranger")), 0);
  EXPECT_EQ(call(other_.issue("guest")), 200);
}

TEST_F(TlsTest, NewCertificatesForNewConnections) {
  const TlsFiles files = authority_.issue("server");
  const auto identity = identity_of(files);
  HttpListener listener({.tls = identity}, return_body);
  listener.start();
  const auto old_trust = trusting(authority_.ca), new_trust = trusting(other_.ca);
  TestClient before(listener.port());
  before.secure(old_trust.get());
  EXPECT_EQ(before.get("/").status, 200);
  EXPECT_EQ(other_.issue("server").cert, files.cert);
  identity->reload();
  TestClient after(listener.port()), late(listener.port());
  after.secure(new_trust.get());
  late.secure(old_trust.get());
  EXPECT_EQ(after.get("/").status, 200);
  EXPECT_EQ(late.get("/").status, 0);
  EXPECT_EQ(before.get("/").status, 200);
}

TEST_F(TlsTest, PeersThatStallOrSpeakOtherwiseAreEnded) {
  HttpListener listener({.read_timeout_ms = 150, .tls = identity_of(authority_.issue("server"))}, return_body);
  listener.start();
  TestClient silent(listener.port()), plain(listener.port()), partial(listener.port());
  plain.send("GET / HTTP/1.1\r\n\r\n");
  partial.send(std::string_view("\x16\x03\x01\x02\x00\x01", 6));
  EXPECT_TRUE(silent.ended());
  EXPECT_TRUE(partial.ended());
  EXPECT_EQ(plain.receive().status, 0);
  while (listener.connections() > 0) std::this_thread::yield();
}

TEST_F(TlsTest, TooManyConnectionsHearSo) {
  HttpListener listener({.max_connections = 1, .tls = identity_of(authority_.issue("server"))}, return_body);
  listener.start();
  const auto context = trusting(authority_.ca);
  TestClient first(listener.port());
  first.secure(context.get());
  EXPECT_EQ(first.get("/").status, 200);
  TestClient second(listener.port());
  second.secure(context.get());
  EXPECT_EQ(second.get("/").status, 503);
}

TEST_F(TlsTest, DrainingAndStoppingEndConnections) {
  HttpListener listener({.tls = identity_of(authority_.issue("server"))}, return_body);
  listener.start();
  const auto context = trusting(authority_.ca);
  TestClient idle(listener.port()), unused(listener.port());
  idle.secure(context.get());
  EXPECT_EQ(idle.get("/").status, 200);
  listener.drain();
  EXPECT_TRUE(idle.ended());
  listener.stop();
  EXPECT_TRUE(unused.ended());
}

TEST_F(TlsTest, TheAdminPortAndItsClient) {
  TlsFiles files = authority_.issue("server");
  files.ca = authority_.ca;
  AdminPlane plane("127.0.0.1", 0, "", identity_of(files));
  plane.handle("POST", "/echo", [](const AdminRequest& r) { return AdminReply{.body = r.body}; });
  plane.start();
  TlsFiles shown = authority_.issue("client");
  shown.ca = authority_.ca;
  const std::string port = std::to_string(plane.port());
  const auto call = [&](const std::string& url, const TlsFiles& tls) {
    return admin_call(url, "POST", "/echo", "{\"a\": 1}", "", 5000, tls).body;
  };
  EXPECT_EQ(call("https://127.0.0.1:" + port, shown), "{\"a\": 1}");
  EXPECT_EQ(call("https://localhost:" + port, shown), "{\"a\": 1}");
  const std::string untrusted = error_of([&] { call("https://127.0.0.1:" + port, {}); });
  EXPECT_NE(untrusted.find("certificate"), std::string::npos) << untrusted;
  EXPECT_THROW(call("https://127.0.0.1:" + port, {.ca = authority_.ca}), Error);
  EXPECT_THROW(call("http://127.0.0.1:" + port, shown), Error);
  EXPECT_THROW(call("https://127.0.0.1:" + port, {.cert = shown.cert}), Error);
}

class GrpcTlsTest : public GrpcPlaneTest {
 protected:
  bool answers(const TlsFiles& tls) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(address(), client_credentials(tls), arguments);
    stub_ = inference::GRPCInferenceService::NewStub(channel_);
    inference::ModelInferResponse response;
    return infer(scaling_request(3), response).ok() && first_value(response) == 7;
  }
};

TEST_F(GrpcTlsTest, CertificatesAreAskedForAtEachConnection) {
  const TestFolder folder;
  TestAuthority authority(folder, "authority"), other(folder, "other");
  TlsFiles files = authority.issue("server");
  files.ca = authority.ca;
  const auto identity = std::make_shared<TlsIdentity>(files);
  serve(make_server({make_version(scaling_graph(2), "m", 1)}), {.tls = identity});
  TlsFiles client = authority.issue("client");
  client.ca = authority.ca;
  ASSERT_TRUE(answers(client));
  const auto kept = std::move(channel_);
  EXPECT_FALSE(answers({.ca = authority.ca}));
  EXPECT_FALSE(answers({client.cert, client.key, other.ca}));
  other.issue("server");
  identity->reload();
  EXPECT_FALSE(answers(client));
  EXPECT_TRUE(answers({client.cert, client.key, other.ca}));
  stub_ = inference::GRPCInferenceService::NewStub(kept);
  expect_answers();
}

TEST_F(GrpcTlsTest, ClientsNeedNoCertificateWhereNoneIsAskedFor) {
  const TestFolder folder;
  TestAuthority authority(folder, "authority"), other(folder, "other");
  const TlsFiles files = authority.issue("server");
  const auto identity = std::make_shared<TlsIdentity>(files);
  serve(make_server({make_version(scaling_graph(2), "m", 1)}), {.tls = identity});
  EXPECT_TRUE(answers({.ca = authority.ca}));
  EXPECT_FALSE(answers({.ca = other.ca}));
  other.issue("server");
  identity->reload();
  EXPECT_TRUE(answers({.ca = other.ca}));
}

}  // namespace
}  // namespace slipway
