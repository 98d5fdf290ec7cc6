// The conformance suite's world on a PostgreSQL server of the test's own, and SQL beside the store.
#pragma once

#include "lua-free-tests/postgres_fixture.h"
#include "lua-free-tests/store_conformance.h"  // last
#include "sidecar/store/store.h"

namespace headgate::conformance {

inline PostgresFixture* server = nullptr;

inline StoreOptions options_of(const std::string& database) {
    StoreOptions options;
    options.url = server->url(database);
    options.master_key = kMasterKey;
    return options;
}

inline std::unique_ptr<Store> opened(const StoreOptions& options) {
    auto store = open_store(options);
    if (!store) throw std::runtime_error(store.error().message);
    return std::move(*store);
}

// The migrated database without a row. A new one for each test would cost more than the test, and its WAL the restart.
class PostgresFactory : public StoreFactory {
 public:
    PostgresFactory() : database_("migrated") {
        (void)sql(
            "SET session_replication_role = replica; DO $$ DECLARE name text; BEGIN FOR name IN SELECT "
            "quote_ident(tablename)"
            " FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations'"
            " LOOP EXECUTE 'DELETE FROM ' || name; END LOOP; END $$");
    }
    std::unique_ptr<Store> open() override { return opened(options_of(database_)); }
    std::unique_ptr<Store> open_with(const std::vector<std::string>& keys) override {
        return opened(with_keys(options_of(database_), keys));
    }
    std::string raw_bytes() override {
        return sql(
            "SELECT string_agg(query_to_xml('SELECT * FROM ' || quote_ident(tablename), true, false, '')::text, '')"
            " FROM pg_tables WHERE schemaname = 'public'");
    }
    std::string run_sql(const std::string& statement) override { return sql(statement); }
    void expire_leases() override { (void)sql("UPDATE instances SET until = 0; UPDATE leases SET until = 0"); }
    [[nodiscard]] std::string sql(const std::string& statement) const { return server->sql(database_, statement); }
    [[nodiscard]] const std::string& database() const { return database_; }

 private:
    std::string database_;
};

inline std::string sql(World& world, const std::string& statement) {
    return static_cast<PostgresFactory&>(*world.factory).sql(statement);
}

// Makes the migrated database there, for all tests of the program. False: it says why it cannot.
inline bool use_server(PostgresFixture& own_server) {
    server = &own_server;
    (void)server->sql("postgres", "CREATE DATABASE migrated");
    if (auto migrated = opened(options_of("migrated"))->migrate(); !migrated) {
        print_error("%s\n", migrated.error().message.c_str());
        return false;
    }
    make_factory = []() -> std::unique_ptr<StoreFactory> { return std::make_unique<PostgresFactory>(); };
    return true;
}

}  // namespace headgate::conformance
